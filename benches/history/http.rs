//! One connection to the router, which is asked one thing after the other.

use std::net::SocketAddr;

use serde_json::Value;

use crate::Failure;
use crate::process::AUDITOR_KEY;

/// A client that keeps its connection.
pub(crate) struct Connection {
    client: reqwest::Client,
    address: SocketAddr,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self, Failure> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let connection = Self { client, address };
        connection.request("/v1/history/head", "application/json").await?.bytes().await?;
        Ok(connection)
    }

    /// A page, read to its end.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        let body = self.request(path, "application/json").await?.bytes().await?;
        Ok(serde_json::from_slice(&body)?)
    }

    /// Reads a stream to its end and keeps nothing of it; returns its bytes and lines.
    pub(crate) async fn stream(&self, path: &str, accept: &str) -> Result<(usize, usize), Failure> {
        let mut response = self.request(path, accept).await?;
        let (mut bytes, mut lines) = (0, 0);
        while let Some(more) = response.chunk().await? {
            bytes += more.len();
            lines += more.split(|byte| *byte == b'\n').count() - 1;
        }
        Ok((bytes, lines))
    }

    async fn request(&self, path: &str, accept: &str) -> Result<reqwest::Response, Failure> {
        let request = self.client.get(format!("http://{}{path}", self.address));
        let response = request.header("api-key", AUDITOR_KEY).header("accept", accept).send().await?;
        match response.status().as_u16() {
            200 => Ok(response),
            status => Err(format!("{path}: {status} {}", response.text().await?).into()),
        }
    }
}
