//! The connection to NATS, and the subjects of a cluster.
//!
//! | subject | what it carries |
//! |---|---|
//! | `caxton.CLUSTER.node.NODE.frame` | the frames of links to a node |
//! | `caxton.CLUSTER.node.NODE.found` | responses to the node's questions |
//! | `caxton.CLUSTER.all.lookup` | questions which node has an agent |
//! | `caxton.CLUSTER.node.NODE.swim`, `caxton.CLUSTER.all.swim` | who belongs to the cluster |
//!
//! Nothing here is reliable: the links are.

use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Subscriber};
use bytes::Bytes;
use caxton_shards::domain::NodeId;

use super::ClusterError;
use crate::config::ClusterConfig;

/// Number of packets that wait for the client, or for the server.
const PACKETS_MAX: usize = 4_096;
/// How long leaving the cluster waits for the server to take what was published.
const FLUSHED_WITHIN: Duration = Duration::from_secs(1);
/// Longest time between two attempts to connect.
const RECONNECT_WITHIN: Duration = Duration::from_secs(1);

/// What a packet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PacketKind {
    /// Of a link.
    Frame,
    /// A question which node has agents.
    Lookup,
    /// A response to one.
    Found,
    /// Of membership.
    Swim,
}

/// Whom a packet is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Destination {
    Node(NodeId),
    /// Every node that is connected, the sender too.
    All,
}

impl PacketKind {
    const ALL: [Self; 4] = [Self::Frame, Self::Lookup, Self::Found, Self::Swim];

    fn word(self) -> &'static str {
        match self {
            Self::Frame => "frame",
            Self::Lookup => "lookup",
            Self::Found => "found",
            Self::Swim => "swim",
        }
    }

    /// Returns the kind of packets of a subject.
    pub fn of(subject: &str) -> Option<Self> {
        let word = subject.rsplit('.').next()?;
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// A connection to NATS, which is kept up.
pub(super) struct Transport {
    client: Client,
    prefix: Box<str>,
}

impl Transport {
    /// Begins to connect, and subscribes to what is for this node and for all. While there is no connection, packets get
    /// lost.
    ///
    /// # Errors
    ///
    /// A file that the settings name cannot be used, or an address is not allowed.
    pub async fn connect(config: &ClusterConfig, node: NodeId) -> Result<(Self, [Subscriber; 2]), ClusterError> {
        let name = config.name.as_str().unwrap_or_default();
        let mut options = ConnectOptions::new()
            .name(format!("caxton node {node} of {name}"))
            .retry_on_initial_connect()
            .client_capacity(PACKETS_MAX)
            .subscription_capacity(PACKETS_MAX)
            .no_echo()
            .reconnect_delay_callback(|attempts| {
                let shift = u32::try_from(attempts.min(8)).unwrap_or(8);
                Duration::from_millis(10 << shift).min(RECONNECT_WITHIN)
            });
        if let Some(path) = config.credentials.path() {
            let read = options.credentials_file(path).await;
            options = read.map_err(|source| ClusterError::Credentials { path: path.to_owned(), source })?;
        }
        if let Some(path) = config.ca.path() {
            options = options.add_root_certificates(path.to_owned()).require_tls(true);
        }
        let client = options.connect(config.nats.urls()).await.map_err(|error| ClusterError::Servers(error.into()))?;
        let prefix = format!("caxton.{name}").into_boxed_str();
        let transport = Self { client, prefix };
        let subscribe = |subject: String| transport.client.subscribe(subject);
        let own = subscribe(format!("{}.node.{node}.*", transport.prefix)).await;
        let all = subscribe(format!("{}.all.*", transport.prefix)).await;
        let [own, all] = [own, all].map(|made| made.map_err(|error| ClusterError::Servers(error.into())));
        Ok((transport, [own?, all?]))
    }

    /// Hands a packet to the client. The packet is lost if there is no connection, or if too many packets wait. Links
    /// send lost frames again, and all other packets are repeated.
    pub fn publish(&self, kind: PacketKind, to: Destination, packet: Bytes) {
        if !self.is_connected() {
            return;
        }
        let subject = match to {
            Destination::Node(node) => format!("{}.node.{node}.{}", self.prefix, kind.word()),
            Destination::All => format!("{}.all.{}", self.prefix, kind.word()),
        };
        // The future is ready immediately unless the client has no room.
        let publish = pin!(self.client.publish(subject, packet));
        let _ = publish.poll(&mut Context::from_waker(Waker::noop()));
    }

    /// Waits until everything that was published is written, but not longer than [`FLUSHED_WITHIN`].
    pub async fn flush(&self) {
        if self.is_connected() {
            // Packets that are not written by then are lost.
            let _ = tokio::time::timeout(FLUSHED_WITHIN, self.client.flush()).await;
        }
    }

    /// Returns the maximum size of a packet that the server takes, in bytes, once it has said so.
    pub fn payload_bytes_max(&self) -> Option<usize> {
        Some(self.client.max_payload()).filter(|bytes| *bytes > 0)
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }
}
