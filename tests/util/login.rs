//! One connection to be: who, from which host, to what, saying what.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_postgres::{Config, NoTls};

use super::client_process::ClientProcess;
use super::denied::Denied;
use super::programs::Programs;
use super::session::Session;
use super::wait::PATIENCE;

/// Describes a connection; [`open`](Self::open) makes it, as often as wanted.
#[derive(Clone, Debug)]
pub struct Login {
    pub(super) config: Config,
    pub(super) programs: Programs,
    pub(super) port: u16,
    pub(super) socket_dir: PathBuf,
    /// The client's address and the server's; none over the Unix socket.
    pub(super) addresses: Option<(IpAddr, IpAddr)>,
}

/// A connection that the server waits on for the startup packet.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Login {
    pub(super) fn new(port: u16, socket_dir: &Path, user: &str) -> Self {
        let mut config = Config::new();
        config.user(user).dbname("postgres");
        Self {
            config,
            programs: Programs::from_env(),
            port,
            socket_dir: socket_dir.into(),
            addresses: None,
        }
    }

    pub(super) fn programs(mut self, programs: &Programs) -> Self {
        self.programs = programs.clone();
        self
    }

    /// Connects from this address, over TCP: 127.0.0.1 and ::1 are the server's own computer, another of 127/8 is a
    /// computer of its own.
    pub fn from(mut self, address: &str) -> Self {
        let from: IpAddr = address.parse().unwrap();
        let to = if from.is_ipv4() {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        } else {
            IpAddr::V6(Ipv6Addr::LOCALHOST)
        };
        self.addresses = Some((from, to));
        self
    }

    /// Connects to this address of the server, after [`from`](Self::from); the server must listen on it.
    pub fn to(mut self, address: &str) -> Self {
        self.addresses.as_mut().expect("from() before to()").1 = address.parse().unwrap();
        self
    }

    /// Connects over the Unix socket.
    pub fn unix(mut self) -> Self {
        self.addresses = None;
        self
    }

    /// Connects to this database.
    pub fn db(mut self, name: &str) -> Self {
        self.config.dbname(name);
        self
    }

    /// Connects as this application.
    pub fn app(mut self, name: &str) -> Self {
        self.config.application_name(name);
        self
    }

    /// Sends this workstation in the startup options.
    pub fn workstation(self, name: &str) -> Self {
        self.options(&format!("-c pg_seats.workstation={}", escaped(name)))
    }

    /// Sends these startup options, after those given before.
    pub fn options(mut self, options: &str) -> Self {
        let all = match self.config.get_options() {
            Some(before) => format!("{before} {options}"),
            None => options.to_owned(),
        };
        self.config.options(all);
        self
    }

    /// Sends this password.
    pub fn password(mut self, password: &str) -> Self {
        self.config.password(password);
        self
    }

    /// Logs in.
    pub async fn open(&self) -> Result<Session, Denied> {
        self.start_up(self.connect().await?).await
    }

    /// Logs in, which must succeed.
    #[track_caller]
    pub fn open_ok(&self) -> impl Future<Output = Session> + Send + use<> {
        let (login, caller) = (self.clone(), std::panic::Location::caller());
        async move {
            let opened = login.open().await;
            opened.unwrap_or_else(|denied| panic!("{caller}: {login} was denied: {denied:#?}"))
        }
    }

    /// Logs in, which must fail.
    #[track_caller]
    pub fn denied(&self) -> impl Future<Output = Denied> + Send + use<> {
        let (login, caller) = (self.clone(), std::panic::Location::caller());
        async move {
            match login.open().await {
                Ok(_) => panic!("{caller}: {login} got in"),
                Err(denied) => denied,
            }
        }
    }

    /// Logs in with a client program that can be killed.
    #[track_caller]
    pub fn process(&self) -> ClientProcess {
        ClientProcess::start(self)
    }

    /// Connects without saying anything yet.
    pub(super) async fn connect(&self) -> Result<Stream, Denied> {
        let connected = match self.addresses {
            Some((from, to)) => self.connect_tcp(from, to).await.map(Stream::Tcp),
            None => UnixStream::connect(self.socket_path())
                .await
                .map(Stream::Unix),
        };
        connected.map_err(|error| Denied::unheard(format!("{self} could not connect: {error}")))
    }

    /// Says who it is, on a connection made before.
    pub(super) async fn start_up(&self, stream: Stream) -> Result<Session, Denied> {
        let session = async {
            match stream {
                Stream::Tcp(stream) => self
                    .config
                    .connect_raw(stream, NoTls)
                    .await
                    .map(Session::new),
                Stream::Unix(stream) => self
                    .config
                    .connect_raw(stream, NoTls)
                    .await
                    .map(Session::new),
            }
        };
        match timeout(3 * PATIENCE, session).await {
            Ok(opened) => Ok(opened?),
            Err(_) => Err(Denied::unheard(format!("{self} got no answer"))),
        }
    }

    async fn connect_tcp(&self, from: IpAddr, to: IpAddr) -> std::io::Result<TcpStream> {
        // Without SO_REUSEADDR, with which the kernel may give two clients of a host the same port.
        let socket = if from.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.bind(SocketAddr::new(from, 0))?;
        let stream = socket.connect(SocketAddr::new(to, self.port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn socket_path(&self) -> PathBuf {
        self.socket_dir.join(format!(".s.PGSQL.{}", self.port))
    }
}

impl std::fmt::Display for Login {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (user, db) = (
            self.config.get_user().unwrap_or_default(),
            self.config.get_dbname().unwrap_or_default(),
        );
        match self.addresses {
            Some((from, _)) => write!(formatter, "{user}@{db} from {from}"),
            None => write!(formatter, "{user}@{db} from the Unix socket"),
        }
    }
}

/// Escapes a value as the server splits `options`: a backslash before blanks and backslashes.
fn escaped(value: &str) -> String {
    value.chars().fold(String::new(), |mut text, c| {
        if c == '\\' || c.is_ascii_whitespace() {
            text.push('\\');
        }
        text.push(c);
        text
    })
}
