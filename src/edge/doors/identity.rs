//! Who is behind a connection, and what they may do: tokens, and the names of agents that they act as.
//!
//! A token is a secret of 32 random bytes. The file that `doors.tokens` names holds only its hash, so that reading the
//! file gives nobody access:
//!
//! ```toml
//! [[token]]
//! name = "billing"
//! hash = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
//! agents = ["billing", "billing-*"]
//! operations = ["send", "receive"]
//! expires = "2027-06-30T00:00:00Z"
//! ```

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use caxton_shards::domain::AgentName;
use serde::Deserialize;
use tokio::sync::Notify;

/// Maximum number of tokens.
pub const TOKENS_MAX: usize = 100_000;
/// Maximum size of the file of tokens, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Number of random bytes of a token.
const SECRET_BYTES: usize = 32;
/// What a token's text begins with, so that it is recognised where it should not be.
const PREFIX: &str = "cxt_";

/// What somebody may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Operation {
    /// Send messages as one of their agents.
    Send = 1,
    /// Register their agents, and receive those agents' messages.
    Receive = 2,
    /// See agents, conversations, dead letters, figures and events, whoever they belong to.
    Observe = 4,
    /// Control agents, replay and purge dead letters, deploy, back up.
    Operate = 8,
}

impl Operation {
    /// All operations.
    pub const ALL: [Self; 4] = [Self::Send, Self::Receive, Self::Observe, Self::Operate];

    /// Returns the word for it in the file of tokens.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Observe => "observe",
            Self::Operate => "operate",
        }
    }
}

/// Names of agents: one, or all that begin in the same way.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Pattern {
    Name(String),
    Prefix(String),
}

impl Pattern {
    fn new(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(prefix) => Self::Prefix(prefix.to_owned()),
            None => Self::Name(text.to_owned()),
        }
    }

    fn fits(&self, name: &str) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Prefix(prefix) => name.starts_with(prefix.as_str()),
        }
    }
}

/// Somebody who was recognised.
#[derive(Debug)]
pub(crate) struct Identity {
    name: Arc<str>,
    agents: Vec<Pattern>,
    operations: u8,
    expires: Option<SystemTime>,
    /// Whether its token is gone, or means something else now.
    is_revoked: AtomicBool,
    /// Notified once it is.
    revoked: Notify,
}

/// How long the end of a token is waited for before the clock is looked at again, which may have been set.
const EXPIRY_LOOK: Duration = Duration::from_secs(30);

impl Identity {
    /// Returns the identity of everybody on this host, where no tokens are used.
    pub fn local() -> Self {
        let operations = Operation::ALL.iter().fold(0, |all, operation| all | *operation as u8);
        Self {
            name: "local".into(),
            agents: vec![Pattern::Prefix(String::new())],
            operations,
            expires: None,
            is_revoked: AtomicBool::new(false),
            revoked: Notify::new(),
        }
    }

    /// Returns the name, for logs and for the audit.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether this may be done. A token that has [ended](Self::has_ended) meanwhile permits nothing.
    pub fn may(&self, operation: Operation) -> bool {
        self.operations & operation as u8 != 0 && !self.has_ended()
    }

    /// Whether the token has expired, or was removed or changed since it was presented.
    pub fn has_ended(&self) -> bool {
        self.is_revoked.load(Ordering::Relaxed) || self.has_expired(SystemTime::now())
    }

    /// Waits until it [has ended](Self::has_ended). What is open in its name ends then, even if nothing else happens there.
    pub async fn ended(&self) {
        let mut revoked = std::pin::pin!(self.revoked.notified());
        // From here on nothing is missed.
        revoked.as_mut().enable();
        loop {
            if self.has_ended() {
                return;
            }
            let rest = self.expires.map(|expires| expires.duration_since(SystemTime::now()).unwrap_or_default());
            let Some(rest) = rest else { return revoked.await };
            let look = tokio::time::sleep(rest.min(EXPIRY_LOOK));
            futures_lite::future::or(look, revoked.as_mut()).await;
        }
    }

    /// Ends what the token permits.
    pub(super) fn revoke(&self) {
        self.is_revoked.store(true, Ordering::Relaxed);
        self.revoked.notify_waiters();
    }

    /// Whether two tokens permit the same.
    fn is_like(&self, other: &Self) -> bool {
        self.name == other.name
            && self.agents == other.agents
            && self.operations == other.operations
            && self.expires == other.expires
    }

    /// Whether this agent is one of theirs.
    pub fn may_act_as(&self, agent: &AgentName) -> bool {
        self.agents.iter().any(|pattern| pattern.fits(agent.as_ref()))
    }

    /// Whether they may receive what this agent gets.
    pub fn may_receive_as(&self, agent: &AgentName) -> bool {
        self.may(Operation::Receive) && self.may_act_as(agent)
    }

    fn has_expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// Why a token gives no access.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// There is none, and tokens are required.
    #[error("a token is required")]
    Missing,
    /// It is not in the file.
    #[error("the token is not known here")]
    Unknown,
    /// It was valid once.
    #[error("the token has expired")]
    Expired,
}

/// The file of tokens cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokensError {
    /// It cannot be read.
    #[error("doors.tokens: {}: cannot be read: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        error: io::Error,
    },
    /// It is not as it should be.
    #[error("doors.tokens: {}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what is expected.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    token: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    hash: String,
    #[serde(default)]
    agents: Vec<String>,
    operations: Vec<Operation>,
    expires: Option<String>,
}

/// The tokens that give access.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    /// By the hash of the secret. Hashes are compared in constant time, and who tries secrets does not choose hashes.
    identities: HashMap<blake3::Hash, Arc<Identity>>,
}

impl Tokens {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// It cannot be read, or an entry is not as it should be.
    pub fn read(path: &Path) -> Result<Self, TokensError> {
        let at = |error| TokensError::File { path: path.to_owned(), error };
        if std::fs::metadata(path).map_err(at)?.len() > FILE_BYTES_MAX {
            return Err(at(io::Error::other("it is larger than 64 MiB")));
        }
        let text = std::fs::read_to_string(path).map_err(at)?;
        Self::parse(&text).map_err(|reason| TokensError::Content { path: path.to_owned(), reason })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        if file.token.len() > TOKENS_MAX {
            return Err(format!("{} tokens: the limit is {TOKENS_MAX}", file.token.len()));
        }
        let mut identities = HashMap::with_capacity(file.token.len());
        for entry in file.token {
            let Entry { name, hash, agents, operations, expires } = entry;
            let refuse = |what: String| format!("token \"{}\": {what}", name.escape_debug());
            let hash = blake3::Hash::from_hex(&hash).map_err(|_| {
                refuse("hash: expected 64 hexadecimal digits, as `caxton token` prints them".to_owned())
            })?;
            let expires = expires.map(|time| {
                humantime::parse_rfc3339_weak(&time).map_err(|_| {
                    refuse(format!("expires: expected a time such as 2027-06-30T00:00:00Z, not \"{time}\""))
                })
            });
            let identity = Identity {
                name: name.as_str().into(),
                agents: agents.iter().map(|text| Pattern::new(text)).collect(),
                operations: operations.iter().fold(0, |all, operation| all | *operation as u8),
                expires: expires.transpose()?,
                is_revoked: AtomicBool::new(false),
                revoked: Notify::new(),
            };
            if identities.insert(hash, Arc::new(identity)).is_some() {
                return Err(refuse("another token has the same hash".to_owned()));
            }
        }
        Ok(Self { identities })
    }

    /// Takes over the identities of tokens that mean the same as before, and revokes the others.
    pub(super) fn succeed(&mut self, former: &Self) {
        for (hash, identity) in &former.identities {
            match self.identities.get_mut(hash) {
                Some(mine) if mine.is_like(identity) => *mine = Arc::clone(identity),
                _ => identity.revoke(),
            }
        }
    }

    /// Returns who has this token.
    ///
    /// # Errors
    ///
    /// Nobody has it, or it has expired.
    pub fn identify(&self, token: &str) -> Result<Arc<Identity>, TokenError> {
        let identity = self.identities.get(&blake3::hash(token.as_bytes())).ok_or(TokenError::Unknown)?;
        if identity.has_expired(SystemTime::now()) {
            return Err(TokenError::Expired);
        }
        Ok(Arc::clone(identity))
    }
}

/// A new token: the secret, which is shown once, and its hash.
pub struct NewToken {
    /// The secret.
    pub secret: String,
    /// The hash for the file of tokens.
    pub hash: String,
}

impl NewToken {
    /// Creates a token of 32 bytes from the kernel.
    ///
    /// # Errors
    ///
    /// The kernel has no random bytes.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; SECRET_BYTES];
        let filled = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
        if filled < SECRET_BYTES {
            return Err(io::Error::other("too few random bytes"));
        }
        let secret = bytes.iter().fold(PREFIX.to_owned(), |text, byte| format!("{text}{byte:02x}"));
        let hash = blake3::hash(secret.as_bytes()).to_hex().to_string();
        Ok(Self { secret, hash })
    }
}

impl fmt::Debug for NewToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("NewToken").field("hash", &self.hash).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> AgentName {
        AgentName::try_new(text).expect("a legal name")
    }

    #[test]
    fn a_token_gives_its_own_rights_until_it_expires() {
        let (mine, old) = (NewToken::random().expect("random bytes"), NewToken::random().expect("random bytes"));
        let text = format!(
            "[[token]]\nname = 'billing'\nhash = '{}'\nagents = ['billing', 'bill-*']\noperations = ['send']\n\
             [[token]]\nname = 'old'\nhash = '{}'\noperations = ['observe']\nexpires = '2020-01-01T00:00:00Z'\n",
            mine.hash, old.hash
        );
        let tokens = Tokens::parse(&text).expect("two tokens");
        let identity = tokens.identify(&mine.secret).expect("it is known");
        assert_eq!(&**identity.name(), "billing");
        assert!(
            identity.may(Operation::Send) && !identity.may(Operation::Receive) && !identity.may(Operation::Operate)
        );
        assert!(identity.may_act_as(&name("billing")) && identity.may_act_as(&name("bill-7")));
        assert!(!identity.may_act_as(&name("billing2")) && !identity.may_act_as(&name("x")));
        assert_eq!(tokens.identify(&old.secret).map(drop), Err(TokenError::Expired));
        assert_eq!(tokens.identify("cxt_00").map(drop), Err(TokenError::Unknown));
        assert_eq!(tokens.identify(&mine.hash).map(drop), Err(TokenError::Unknown), "a hash is no secret");
    }

    #[tokio::test]
    async fn the_end_of_a_token_is_noticed_by_those_who_wait() {
        let expiring = Identity { expires: Some(SystemTime::now() + Duration::from_millis(20)), ..Identity::local() };
        expiring.ended().await;
        assert!(expiring.has_ended());
        let revoked = Arc::new(Identity::local());
        let waits = tokio::spawn({
            let revoked = Arc::clone(&revoked);
            async move { revoked.ended().await }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        revoked.revoke();
        waits.await.expect("it does not panic");
        revoked.ended().await;
    }

    #[test]
    fn a_token_that_is_removed_or_changed_permits_nothing_more() {
        let [kept, removed, changed] = [(); 3].map(|()| NewToken::random().expect("random bytes"));
        let entry = |token: &NewToken, operation: &str| {
            format!("[[token]]\nname = 'a'\nhash = '{}'\noperations = ['{operation}']\n", token.hash)
        };
        let read = |text: &str| Tokens::parse(text).expect("tokens");
        let before = read(&[entry(&kept, "send"), entry(&removed, "send"), entry(&changed, "send")].concat());
        let [first, second, third] =
            [&kept, &removed, &changed].map(|token| before.identify(&token.secret).expect("it is known"));
        let mut after = read(&[entry(&kept, "send"), entry(&changed, "observe")].concat());
        after.succeed(&before);
        assert!(first.may(Operation::Send) && !second.may(Operation::Send) && !third.may(Operation::Send));
        assert!(Arc::ptr_eq(&first, &after.identify(&kept.secret).expect("it is known")));
        assert!(after.identify(&changed.secret).expect("it is known").may(Operation::Observe));
    }

    #[test]
    fn mistakes_in_the_file_are_explained() {
        let hash = "0".repeat(64);
        for (text, expected) in [
            ("[[token]]\nname = 'a'\nhash = 'x'\noperations = []".to_owned(), "64 hexadecimal digits"),
            (format!("[[token]]\nname = 'a'\nhash = '{hash}'\noperations = ['fly']"), "`send`"),
            (format!("[[token]]\nname = 'a'\nhash = '{hash}'\noperations = []\nexpires = 'soon'"), "2027-06-30"),
            (format!("[[token]]\nname = 'a'\nhash = '{hash}'\noperations = []\nagent = 'x'"), "unknown field"),
            (format!("[[token]]\nname='a'\nhash='{hash}'\noperations=[]\n").repeat(2), "same hash"),
        ] {
            let error = Tokens::parse(&text).expect_err(&text);
            assert!(error.contains(expected), "{error}");
        }
    }
}
