//! One connection from the accepted socket to its close.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use http::request::Parts;
use http::{Method, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::ServiceExt;

use super::endless::{self, Handover};
use super::io::Watched;
use super::plain::{Outgoing, Plain};
use super::state::{Connection, Connections, Registered};
use super::tls::Tls;
use crate::app::App;
use crate::http::address::Client;
use crate::http::auth::Proof;
use crate::http::front::{self, Front};
use crate::http::{Endless, Finished, ReplyBody, RequestBody};

/// Largest request head, and the most that is buffered of a body.
const BUFFER: usize = 64 * 1024;
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
        let outgoing = Outgoing::default();
        let requests = Requests {
            outgoing: Some(outgoing.clone()),
            ..Requests::new(acceptor, peer, &registered.connection)
        };
        return serve_http1(acceptor, Plain::new(stream, outgoing), requests, &registered).await;
    };
    // In a place of its own: a connection without TLS has no use for the room.
    Box::pin(serve_tls(acceptor, tls, stream, peer, &registered)).await;
}

async fn serve_tls(acceptor: &Arc<Acceptor>, tls: &Tls, stream: TcpStream, peer: SocketAddr, registered: &Registered) {
    let handshake = tokio_rustls::TlsAcceptor::from(tls.session()).accept(stream);
    let limit = Duration::from_secs(u64::from(acceptor.app.config.server.handshake_seconds));
    match tokio::time::timeout(limit, handshake).await {
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
            Box::pin(serve_http2(acceptor, stream, peer, registered)).await;
        }
        Ok(Ok(stream)) => {
            let requests = Requests::new(acceptor, peer, &registered.connection);
            serve_http1(acceptor, stream, requests, registered).await;
        }
        Ok(Err(error)) => {
            acceptor.app.metrics.handshakes_failed.increment(1);
            tracing::debug!(%peer, %error, "the TLS handshake failed");
        }
        Err(_elapsed) => acceptor.app.metrics.handshakes_failed.increment(1),
    }
}

async fn serve_http1<S>(acceptor: &Arc<Acceptor>, stream: S, requests: Requests, registered: &Registered)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Given back before an answer without an end begins: hyper and its buffers are most of what a connection costs.
    let left = Box::pin(serve_requests(acceptor, stream, requests, registered)).await;
    if let Some((mut stream, answer)) = left {
        let connection = &registered.connection;
        let now = acceptor.app.clock.now();
        let ended = {
            let mut writing = std::pin::pin!(endless::write(&mut stream, *answer, now));
            poll_fn(|cx| {
                if connection.is_killed() {
                    return Poll::Ready(false);
                }
                writing.as_mut().poll(cx).map(|written| written.is_ok())
            })
            .await
        };
        if ended {
            let _ = tokio::time::timeout(FAREWELL, stream.shutdown()).await;
        }
    }
}

/// How a connection came to its end.
enum Ended {
    Killed,
    Served(hyper::Result<()>),
    Endless(Box<Response<ReplyBody>>),
}

/// Serves requests until the connection is over, or until an answer that has no end.
async fn serve_requests<S>(
    acceptor: &Arc<Acceptor>,
    stream: S,
    requests: Requests,
    registered: &Registered,
) -> Option<(Watched<S>, Box<Response<ReplyBody>>)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = &registered.connection;
    let handover = requests.handover.clone();
    let io = TokioIo::new(Watched::new(stream, Arc::clone(connection)));
    let mut served = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(BUFFER)
        .serve_connection(io, requests);
    let mut told = false;
    let mut first = true;
    let ended = poll_fn(|cx| {
        if std::mem::take(&mut first) {
            connection.wake_with(cx.waker());
        }
        if connection.is_killed() {
            return Poll::Ready(Ended::Killed);
        }
        if !told && acceptor.connections.is_stopping() {
            told = true;
            Pin::new(&mut served).graceful_shutdown();
        }
        match served.poll_without_shutdown(cx) {
            Poll::Ready(outcome) => Poll::Ready(Ended::Served(outcome)),
            // What hyper still has to say comes first: the end of an answer to an earlier request.
            Poll::Pending if connection.is_blocked() => Poll::Pending,
            Poll::Pending => handover
                .take()
                .map_or(Poll::Pending, |answer| Poll::Ready(Ended::Endless(answer))),
        }
    })
    .await;
    let mut stream = served.into_parts().io.into_inner();
    let farewell = async {
        match ended {
            Ended::Endless(answer) => return Ok(Some(answer)),
            Ended::Killed if connection.is_inside_header() => {
                stream.write_all(TOO_SLOW).await?;
                stream.shutdown().await?;
            }
            Ended::Killed | Ended::Served(Err(_)) => {}
            Ended::Served(Ok(())) => {
                stream.shutdown().await?;
                if connection.wants_to_linger() {
                    linger(&mut stream).await;
                }
            }
        }
        Ok::<_, std::io::Error>(None)
    };
    // Whatever the peer does now, the connection is over.
    let answer = tokio::time::timeout(FAREWELL, farewell).await.ok()?.ok()??;
    Some((stream, answer))
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
    /// Where plain HTTP is told of the bodies that the kernel may send.
    outgoing: Option<Outgoing>,
    /// Where an answer that has no end is left.
    handover: Handover,
    proof: RefCell<Option<Proof>>,
}

impl Requests {
    fn new(acceptor: &Arc<Acceptor>, peer: SocketAddr, connection: &Arc<Connection>) -> Self {
        Self {
            acceptor: Arc::clone(acceptor),
            connection: Arc::clone(connection),
            peer,
            outgoing: None,
            handover: Handover::default(),
            proof: RefCell::default(),
        }
    }
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response<ReplyBody>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        self.connection.request_began();
        let handling = || Handling(Arc::clone(&self.connection));
        match front::answer(&self.acceptor.app, &request, self.peer, &mut self.proof.borrow_mut()) {
            Front::Reply(reply) => {
                self.connection.request_ended();
                if let (Some(outgoing), ReplyBody::Kept(body)) = (&self.outgoing, reply.body()) {
                    outgoing.announce(body);
                }
                Answer::Ready(Some(reply))
            }
            Front::Beat(client) => Answer::Beat(Some(Box::new(Beat {
                acceptor: Arc::clone(&self.acceptor),
                request,
                client,
                handling: handling(),
            }))),
            Front::Pass(client) => {
                // Others need it told in other ways, or not at all.
                let is_plain = request.method() == Method::GET && request.version() == Version::HTTP_11;
                let (head, body) = request.into_parts();
                let making = route(&self.acceptor, head, RequestBody::new(body), client, handling());
                Answer::Slow(making, is_plain.then(|| self.handover.clone()))
            }
        }
    }
}

/// Lets the router answer.
fn route(
    acceptor: &Acceptor,
    mut head: Parts,
    (body, finished): (RequestBody, Finished),
    client: Client,
    handling: Handling,
) -> Slow {
    head.extensions.insert(client);
    let request = Request::from_parts(head, axum::body::Body::new(body));
    let answering = acceptor.router.clone().oneshot(request);
    Box::pin(async move {
        let reply = answering.await.unwrap_or_else(|never| match never {});
        if !finished.is_whole() {
            handling.0.ask_to_linger();
        }
        drop(handling);
        reply.map(ReplyBody::Stream)
    })
}

/// A request that is being answered; dropped with an answer, or with a stream that the client reset.
struct Handling(Arc<Connection>);

impl Drop for Handling {
    fn drop(&mut self) {
        self.0.request_ended();
    }
}

/// A heartbeat whose body was not looked at yet. A host sends it in one piece with the head, so it
/// is there at the first look; one that is not goes to the router, which waits with a time limit.
struct Beat {
    acceptor: Arc<Acceptor>,
    request: Request<Incoming>,
    client: Client,
    handling: Handling,
}

impl Beat {
    fn look(self, cx: &mut Context<'_>) -> Result<Response<ReplyBody>, Slow> {
        let (head, mut body) = self.request.into_parts();
        let taken = match Pin::new(&mut body).poll_frame(cx) {
            Poll::Ready(taken) => taken,
            Poll::Pending => None,
        };
        if let Some(Ok(frame)) = &taken
            && let Some(data) = frame.data_ref()
            && body.is_end_stream()
            && let Some(reply) = front::beat(&self.acceptor.app, &head.headers, data, &self.client)
        {
            return Ok(reply);
        }
        let body = RequestBody::resumed(taken, body);
        Err(route(&self.acceptor, head, body, self.client, self.handling))
    }
}

type Slow = Pin<Box<dyn Future<Output = Response<ReplyBody>> + Send>>;

/// An answer at hand, or one that is being made.
enum Answer {
    Ready(Option<Response<ReplyBody>>),
    Beat(Option<Box<Beat>>),
    /// With the place for one that has no end.
    Slow(Slow, Option<Handover>),
}

impl Future for Answer {
    type Output = Result<Response<ReplyBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Self::Beat(beat) = &mut *self {
            let Some(beat) = beat.take() else { return Poll::Pending };
            match beat.look(cx) {
                Ok(reply) => return Poll::Ready(Ok(reply)),
                Err(slow) => *self = Self::Slow(slow, None),
            }
        }
        match &mut *self {
            Self::Ready(reply) => reply.take().map_or(Poll::Pending, |reply| Poll::Ready(Ok(reply))),
            Self::Beat(_) => Poll::Pending,
            Self::Slow(making, handover) => {
                let reply = ready!(making.as_mut().poll(cx));
                match handover {
                    Some(handover) if reply.extensions().get::<Endless>().is_some() => {
                        // hyper waits for an answer; whoever polls it finds this one and goes on without it.
                        handover.leave(Box::new(reply));
                        Poll::Pending
                    }
                    _ => Poll::Ready(Ok(reply)),
                }
            }
        }
    }
}
