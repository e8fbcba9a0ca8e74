//! Why a credential was refused.

/// The reason, for the journal and the log. It never holds anything of the credential; the peer is told none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No header that names a peer, or only empty ones.
    #[error("no credential")]
    NoCredential,
    /// The header is not UTF-8.
    #[error("the credential is not text")]
    NotText,
    /// Nobody's key; at a socket, neither master's.
    #[error("unknown API key")]
    UnknownApiKey,
    /// Not a JWT, or its claims are not what they must be.
    #[error("malformed token")]
    MalformedToken,
    /// A token that is not HS256: `none`, RS256 or any other.
    #[error("the token's algorithm is not HS256")]
    Algorithm,
    /// Signed with another key, or changed afterwards.
    #[error("the token's signature is wrong")]
    Signature,
    /// A token for another audience, or one that asks for an extension.
    #[error("the token is meant for something else")]
    Purpose,
    /// A token that would be good for ever.
    #[error("the token does not expire")]
    NoExpiry,
    /// A token whose time is over.
    #[error("the token has expired")]
    Expired,
    /// A token whose time has not come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// A token, in secured mode, of something other than an agent.
    #[error("the token's subject is not a UUID")]
    SubjectNotUuid,
    /// A master's name without its key.
    #[error("a master's name was claimed without its key")]
    MasterName,
    /// A key, whoever's, where a name belongs.
    #[error("an API key was given in place of a name")]
    KeyAsName,
    /// Empty, too long, or with control characters.
    #[error("not a valid identity")]
    InvalidIdentity,
    /// Not `<caller>:<target>`.
    #[error("malformed invoke key")]
    InvokeKeyShape,
    /// In secured mode, neither a master's key nor an agent's id.
    #[error("the invoke key's caller is neither a master's key nor an agent's id")]
    InvokeKeyCaller,
    /// In secured mode, neither an agent's id nor the master agent.
    #[error("the invoke key's target is neither an agent's id nor master_server_ml")]
    InvokeKeyTarget,
}
