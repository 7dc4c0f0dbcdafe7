//! The doors: how agents and clients outside this process reach the router.
//!
//! One thread serves them all, on tokio, off the shards. A door translates: what comes in becomes messages and calls of
//! the router, with the authenticated identity as their sender, and what an outside agent receives goes out as its
//! client asked for it. The router never learns that there are doors.
//!
//! Outside the loopback interface a door opens only with tokens and with TLS.

pub(crate) mod audit;
pub(crate) mod context;
pub(crate) mod deliveries;
pub(crate) mod identity;
pub(crate) mod outside;
pub(crate) mod rates;
pub(crate) mod reason;
pub(crate) mod room;
pub(crate) mod socket;
pub(crate) mod spin;
pub(crate) mod stream;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{oneshot, watch};

use self::audit::AuditFile;
use self::context::Access;
pub(crate) use self::context::DoorContext;
pub(crate) use self::identity::Identity;
pub use self::identity::{NewToken, Operation, TOKENS_MAX, TokensError};
pub(crate) use self::outside::{Attachment, OutsideAgent, OutsideError, OutsideOptions};
use self::socket::{SocketFile, SocketTransport};
use self::stream::DoorTransport;
pub use self::tls::CertificateError;
use super::{accept, http, listen, nats};
use crate::config::{Config, ListenAddress};
use crate::error::ListenError;
use crate::router::Router;

/// Why the doors were not opened. None of them is open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DoorsError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// An address is reachable from other hosts, and something that protects it is missing.
    #[error(
        "{setting}: {address} can be reached from other hosts, which requires {missing}: set it, or listen on the loopback \
         interface, such as 127.0.0.1:{}",
        address.port()
    )]
    Unprotected {
        /// The setting.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// The missing setting.
        missing: &'static str,
    },
    /// The Unix socket cannot be listened on.
    #[error("http.socket: {}: cannot be listened on: {error}; {}", path.display(), advice(error))]
    Socket {
        /// Its path.
        path: PathBuf,
        /// The error of the operating system, or what is in its place.
        #[source]
        error: io::Error,
    },
    /// The file of tokens cannot be used.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The file of the audit cannot be opened.
    #[error("doors.audit: {}: cannot be opened: {error}", path.as_deref().unwrap_or(Path::new("")).display())]
    Audit {
        /// The file.
        path: Option<PathBuf>,
        /// The operating system's error.
        #[source]
        error: io::Error,
    },
    /// The thread cannot be started.
    #[error("the thread of the doors could not be started: {0}")]
    Thread(#[source] io::Error),
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "stop that process, or choose another path",
        io::ErrorKind::AlreadyExists => "choose another path, or remove the file",
        io::ErrorKind::NotFound => "create its directory first",
        io::ErrorKind::PermissionDenied => "choose a directory in which this process may create files",
        _ => "choose another path",
    }
}

/// The open doors of a router. Dropping them closes them at once.
///
/// They hold a handle of the router, so that it runs as long as they are open.
///
/// ```
/// use std::time::Duration;
///
/// use caxton_router::Router;
/// use caxton_router::config::Config;
/// use caxton_router::serve::Doors;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut config = Config::default();
/// config.set("http.listen", "127.0.0.1:0", "this program")?;
/// let router = Router::builder().config(config).start()?;
/// let doors = Doors::open(&router)?;
/// assert!(doors.http_address().is_some_and(|address| address.ip().is_loopback()));
/// router.shutdown(Duration::from_secs(5))?;
/// doors.close();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping the doors closes them"]
pub struct Doors {
    http: Option<SocketAddr>,
    nats: Option<SocketAddr>,
    /// The file of the Unix socket, which is removed with the doors.
    socket: Option<SocketFile>,
    context: Arc<DoorContext>,
    closing: watch::Sender<bool>,
    /// Ends the thread when it is dropped.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Doors {
    /// Opens the doors that the router's settings name: `http.listen`, `http.socket` and `nats.listen`.
    ///
    /// # Errors
    ///
    /// An address cannot be used or is not protected, or a file that the settings name cannot be used. No door is open
    /// then.
    pub fn open(router: &Router) -> Result<Self, DoorsError> {
        let config = router.config();
        let access = Access::read(&config.doors)?;
        let http = open("http.listen", config.http.listen, &access)?;
        let nats_listener = open("nats.listen", config.nats.listen, &access)?;
        let address = |listener: &Option<std::net::TcpListener>| {
            listener.as_ref().map(std::net::TcpListener::local_addr).transpose().map_err(DoorsError::Thread)
        };
        let addresses = (address(&http)?, address(&nats_listener)?);
        let (socket, file) = open_socket(config)?.unzip();
        let (closing, is_closing) = watch::channel(false);
        let audit = audit_file(config)?;
        let context = Arc::new(DoorContext::new(router, access, audit, is_closing));
        let api = (http.is_some() || socket.is_some()).then(|| http::routes(&context));
        let (stop, stopped) = oneshot::channel::<()>();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_io().enable_time().on_thread_park(context.woken.clone().before_sleep()).build();
        let runtime = runtime.map_err(DoorsError::Thread)?;
        let served = Arc::clone(&context);
        let serve = async move {
            let outside = Arc::clone(&served.outside);
            tokio::spawn(async move { outside.deregister_abandoned().await });
            if let Some(api) = api {
                let figures = Arc::clone(&served.router.shared().edge);
                let limits = {
                    let context = Arc::clone(&served);
                    move || context.http_limits()
                };
                if let Some(Ok(listener)) = http.map(tokio::net::TcpListener::from_std) {
                    let transport = DoorTransport { listener, context: Arc::clone(&served) };
                    tokio::spawn(accept(transport, api.clone(), Arc::clone(&figures), limits.clone()));
                }
                if let Some(Ok(listener)) = socket.map(tokio::net::UnixListener::from_std) {
                    tokio::spawn(accept(SocketTransport(listener), api, figures, limits));
                }
            }
            let nats = nats_listener.and_then(|listener| tokio::net::TcpListener::from_std(listener).ok());
            let nats = nats.map(|listener| tokio::spawn(nats::serve(listener, Arc::clone(&served))));
            drop(served);
            // The sender is dropped.
            let _ = stopped.await;
            if let Some(nats) = nats {
                // It ends soon after the doors are to be closed.
                let _ = nats.await;
            }
        };
        let thread = std::thread::Builder::new().name("caxton-doors".to_owned()).spawn(move || runtime.block_on(serve));
        let thread = thread.map_err(DoorsError::Thread)?;
        let (http, nats) = addresses;
        Ok(Self { http, nats, socket: file, context, closing, stop: Some(stop), thread: Some(thread) })
    }

    /// Returns the address of the HTTP API, if it is served.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Returns the path of the Unix socket of the HTTP API, if it is served there.
    pub fn socket_path(&self) -> Option<&Path> {
        self.socket.as_ref().map(SocketFile::path)
    }

    /// Returns the address for clients of NATS, if they are served.
    pub fn nats_address(&self) -> Option<SocketAddr> {
        self.nats
    }

    /// Whether clients have to encrypt.
    pub fn are_encrypted(&self) -> bool {
        self.context.access().tls.is_some()
    }

    /// Reads tokens and certificates again, from the files that these settings name, and checks them; opens the file of the
    /// audit again, so that it can have been moved away. Nothing changes before [`DoorsReload::apply`].
    ///
    /// # Errors
    ///
    /// A file cannot be used, or an address would no longer be protected.
    pub fn prepare_reload(&self, config: &Config) -> Result<DoorsReload, DoorsError> {
        let access = Access::read(&config.doors)?;
        for (setting, address) in [("http.listen", self.http), ("nats.listen", self.nats)] {
            protected(setting, address, &access)?;
        }
        let audit = audit_file(config)?;
        Ok(DoorsReload { context: Arc::clone(&self.context), access, audit, config: config.clone() })
    }

    /// Does what [`Doors::prepare_reload`] and [`DoorsReload::apply`] do.
    ///
    /// # Errors
    ///
    /// As [`Doors::prepare_reload`]. Everything stays as it was.
    pub fn reload(&self, config: &Config) -> Result<(), DoorsError> {
        self.prepare_reload(config).map(DoorsReload::apply)
    }

    /// Closes the doors, and waits until their thread has ended.
    pub fn close(mut self) {
        self.closing.send_replace(true);
        self.socket.take();
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Tokens, certificates and limits that were read again and can be taken over.
#[derive(Debug)]
#[must_use = "nothing changes until they are applied"]
pub struct DoorsReload {
    context: Arc<DoorContext>,
    access: Access,
    audit: Option<AuditFile>,
    config: Config,
}

impl DoorsReload {
    /// Returns the path of the audit's file, if there is one.
    pub fn audit_path(&self) -> Option<&Path> {
        self.config.doors.audit.path()
    }

    /// Takes them over. Open connections stay open with the certificate that they were shown and, at the HTTP door, with
    /// their idle time; what was opened with a token that is gone or has expired ends. Outside agents stay registered.
    pub fn apply(self) {
        self.context.set_access(self.access);
        self.context.set_limits(&self.config);
        self.context.audit.replace(self.audit);
    }
}

fn audit_file(config: &Config) -> Result<Option<AuditFile>, DoorsError> {
    let path = config.doors.audit.path();
    AuditFile::open(path).map_err(|error| DoorsError::Audit { path: path.map(ToOwned::to_owned), error })
}

fn open(
    setting: &'static str,
    address: ListenAddress,
    access: &Access,
) -> Result<Option<std::net::TcpListener>, DoorsError> {
    protected(setting, address.address(), access)?;
    Ok(address.address().map(|address| listen(setting, address)).transpose()?)
}

fn open_socket(config: &Config) -> Result<Option<(UnixListener, SocketFile)>, DoorsError> {
    let Some(path) = config.http.socket.path() else { return Ok(None) };
    let opened = socket::listen_on(path, config.http.socket_mode);
    opened.map(Some).map_err(|error| DoorsError::Socket { path: path.to_owned(), error })
}

/// Checks that an address outside the loopback interface is protected.
fn protected(setting: &'static str, address: Option<SocketAddr>, access: &Access) -> Result<(), DoorsError> {
    let Some(address) = address.filter(|address| !address.ip().is_loopback()) else { return Ok(()) };
    let missing = match (access.requires_token(), access.tls.is_some()) {
        (true, true) => return Ok(()),
        (false, _) => "doors.tokens",
        (true, false) => "doors.certificate and doors.key",
    };
    Err(DoorsError::Unprotected { setting, address, missing })
}
