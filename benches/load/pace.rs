//! A master that invokes at a fixed rate, whatever comes back.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, interval, timeout, timeout_at};

use crate::Failure;
use crate::master::{Master, PATIENCE, Work};

/// How often what is due by then is sent.
const PACE: Duration = Duration::from_millis(2);

/// Answers since somebody last looked: how long each took.
pub(crate) type Latencies = Arc<Mutex<Vec<Duration>>>;

impl Master {
    /// Invokes agents in turn, `rate` times a second however fast they answer, until the time is over and all are answered;
    /// returns how many. How long each took goes to `latencies`.
    pub(crate) async fn keep_pace(mut self, work: &Work, rate: u32, latencies: &Latencies) -> Result<u64, Failure> {
        let began = Instant::now();
        let mut clock = interval(PACE);
        let (mut asked, mut answers) = (0_u64, 0);
        loop {
            let is_over = Instant::now() >= work.measured.end;
            if is_over && self.waiting.is_empty() {
                break;
            }
            tokio::select! {
                _ = clock.tick(), if !is_over => {
                    let now = Instant::now();
                    let due = u64::try_from((now - began).as_micros())? * u64::from(rate) / 1_000_000;
                    (asked..due).for_each(|_| self.ask(work, now));
                    asked = due.max(asked);
                }
                received = timeout_at(work.measured.end + PATIENCE, self.socket.receive()) => {
                    if !matches!(received, Ok(Ok(true))) {
                        return Err(format!("{} invocations were not answered", self.waiting.len()).into());
                    }
                    let now = Instant::now();
                    while let Some(frame) = self.next_text()? {
                        let Some(answer) = self.take(std::str::from_utf8(&frame)?)? else { continue };
                        let Some((sent, _)) = self.settle(work, answer)? else { continue };
                        answers += 1;
                        latencies.lock().expect("nobody panics with it").push(now - sent);
                    }
                }
            }
            self.socket.flush().await?;
        }
        timeout(PATIENCE, self.socket.confirm()).await??;
        self.socket.close().await?;
        Ok(answers)
    }
}
