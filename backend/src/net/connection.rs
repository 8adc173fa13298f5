//! One connection from the accepted socket to its close.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::ServiceExt;

use super::io::Watched;
use super::state::{Connection, Connections, Registered};
use super::tls::Tls;
use crate::app::App;
use crate::http::front::{self, Front};
use crate::http::{ReplyBody, RequestBody};

/// Largest request head, and the most that is buffered of a body.
const BUFFER: usize = 64 * 1024;
/// Most header lines in a request.
const MAX_HEADERS: usize = 64;
/// How long, and how much of it, the rest of a refused body is thrown away so that the client can
/// read the refusal: closing a socket with unread bytes resets it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 256 * 1024;
/// How long the last bytes of a connection may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// Sent to a client that began a request and did not finish its headers in time.
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n\
content-length: 88\r\n\r\n{\"error\":\"the headers of the request did not arrive in time\",\"code\":\"request_timeout\"}\r\n";

/// What all connections of a worker share.
#[derive(Debug)]
pub(super) struct Acceptor {
    pub(super) router: Router,
    pub(super) app: Arc<App>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) connections: Arc<Connections>,
}

/// Serves a connection to its end.
pub(super) async fn serve(acceptor: &Arc<Acceptor>, stream: TcpStream, peer: SocketAddr) {
    let registered = acceptor.connections.register();
    // Answers are written whole; waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    let Some(tls) = &acceptor.tls else {
        return serve_http1(acceptor, stream, peer, &registered).await;
    };
    let handshake = tokio_rustls::TlsAcceptor::from(tls.session()).accept(stream);
    let limit = Duration::from_secs(u64::from(acceptor.app.config.server.handshake_seconds));
    match tokio::time::timeout(limit, handshake).await {
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
            serve_http2(acceptor, stream, peer, &registered).await;
        }
        Ok(Ok(stream)) => serve_http1(acceptor, stream, peer, &registered).await,
        Ok(Err(error)) => {
            acceptor.app.metrics.handshakes_failed.increment(1);
            tracing::debug!(%peer, %error, "the TLS handshake failed");
        }
        Err(_elapsed) => acceptor.app.metrics.handshakes_failed.increment(1),
    }
}

async fn serve_http1<S>(acceptor: &Arc<Acceptor>, stream: S, peer: SocketAddr, registered: &Registered)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = &registered.connection;
    let io = TokioIo::new(Watched::new(stream, Arc::clone(connection)));
    let mut served = http1::Builder::new()
        .header_read_timeout(None)
        .max_headers(MAX_HEADERS)
        .max_buf_size(BUFFER)
        .serve_connection(io, Requests::new(acceptor, peer, connection));
    let mut told = false;
    let mut first = true;
    let ended = poll_fn(|cx| {
        if std::mem::take(&mut first) {
            connection.wake_with(cx.waker());
        }
        if connection.is_killed() {
            return Poll::Ready(None);
        }
        if !told && acceptor.connections.is_stopping() {
            told = true;
            Pin::new(&mut served).graceful_shutdown();
        }
        served.poll_without_shutdown(cx).map(Some)
    })
    .await;
    let mut stream = served.into_parts().io.into_inner();
    let farewell = async {
        match ended {
            None if connection.is_inside_header() => {
                stream.write_all(TOO_SLOW).await?;
                stream.shutdown().await
            }
            None | Some(Err(_)) => Ok(()),
            Some(Ok(())) => {
                stream.shutdown().await?;
                if connection.wants_to_linger() {
                    linger(stream).await;
                }
                Ok(())
            }
        }
    };
    // Whatever the peer does now, the connection is over.
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

async fn linger(stream: impl AsyncRead + Unpin) {
    let mut rest = stream.take(LINGER_BYTES);
    let mut sink = tokio::io::sink();
    // The time limit and the client's own close are both good ends.
    let _ = tokio::time::timeout(LINGER, tokio::io::copy(&mut rest, &mut sink)).await;
}

async fn serve_http2<S>(acceptor: &Arc<Acceptor>, stream: S, peer: SocketAddr, registered: &Registered)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = &registered.connection;
    connection.set_multiplexed();
    let io = TokioIo::new(Watched::new(stream, Arc::clone(connection)));
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(64)
        .max_header_list_size(u32::try_from(BUFFER).unwrap_or(u32::MAX))
        .serve_connection(io, Requests::new(acceptor, peer, connection));
    tokio::pin!(served);
    let mut told = false;
    let mut first = true;
    poll_fn(|cx| {
        if std::mem::take(&mut first) {
            connection.wake_with(cx.waker());
        }
        if connection.is_killed() {
            return Poll::Ready(());
        }
        if !told && acceptor.connections.is_stopping() {
            told = true;
            served.as_mut().graceful_shutdown();
        }
        // A broken connection is the client's affair; requests have been logged one by one.
        served.as_mut().poll(cx).map(|_outcome| ())
    })
    .await;
}

/// The requests of one connection.
struct Requests {
    acceptor: Arc<Acceptor>,
    connection: Arc<Connection>,
    peer: SocketAddr,
}

impl Requests {
    fn new(acceptor: &Arc<Acceptor>, peer: SocketAddr, connection: &Arc<Connection>) -> Self {
        Self {
            acceptor: Arc::clone(acceptor),
            connection: Arc::clone(connection),
            peer,
        }
    }
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response<ReplyBody>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, mut request: Request<Incoming>) -> Answer {
        self.connection.request_began();
        let client = match front::answer(&self.acceptor.app, &request, self.peer) {
            Front::Reply(reply) => {
                self.connection.request_ended();
                return Answer::Ready(Some(reply));
            }
            Front::Pass(client) => client,
        };
        request.extensions_mut().insert(client);
        let (head, body) = request.into_parts();
        let (body, finished) = RequestBody::new(body);
        let answering = self
            .acceptor
            .router
            .clone()
            .oneshot(Request::from_parts(head, axum::body::Body::new(body)));
        let handling = Handling(Arc::clone(&self.connection));
        Answer::Slow(Box::pin(async move {
            let reply = answering.await.unwrap_or_else(|never| match never {});
            if !finished.is_whole() {
                handling.0.ask_to_linger();
            }
            drop(handling);
            reply.map(ReplyBody::Stream)
        }))
    }
}

/// A request in the router's hands; dropped with an answer, or with a stream that the client reset.
struct Handling(Arc<Connection>);

impl Drop for Handling {
    fn drop(&mut self) {
        self.0.request_ended();
    }
}

/// An answer at hand, or one that is being made.
enum Answer {
    Ready(Option<Response<ReplyBody>>),
    Slow(Pin<Box<dyn Future<Output = Response<ReplyBody>> + Send>>),
}

impl Future for Answer {
    type Output = Result<Response<ReplyBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Ready(reply) => match reply.take() {
                Some(reply) => Poll::Ready(Ok(reply)),
                None => Poll::Pending,
            },
            Self::Slow(making) => making.as_mut().poll(cx).map(Ok),
        }
    }
}
