//! The requests on the agent's sockets. One list makes both the router and the OpenAPI document.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use utoipa::IntoResponses;
use utoipa::openapi::{ComponentsBuilder, Info, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::crowd::Asked;
use super::peer::{Peer, Right};
use super::{Daemon, told};
use crate::firewall::{ChangeKind, Firewall};
use crate::metrics;
use crate::wire;
use lyncwall_api as api;
use lyncwall_policy::problem::{Error, Problem, Problems};

/// The longest body of a request, in bytes.
const BODY: usize = 64 * 1024;
/// The longest list of prefixes, in bytes: all that the block-list holds.
const LIST: usize = 8 * 1024 * 1024;
/// Takes long lists of users other than root one after the other, so that they do not fill the memory.
static LISTS: Semaphore = Semaphore::const_new(1);
/// The time for the body of a request.
const BODY_TIME: Duration = Duration::from_secs(10);

/// The API, for peers with credentials from the socket.
pub(super) fn router(daemon: Daemon) -> Router {
    let (router, _) = listed().split_for_parts();
    router
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        // `whole` limits the length.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn(whole))
        .layer(from_fn_with_state(daemon.clone(), allowed))
        .layer(from_fn_with_state(daemon.clone(), unguarded))
        .with_state(daemon)
}

/// The metrics only, for any peer.
pub(super) fn metrics_router(daemon: Daemon) -> Router {
    let (router, _) = OpenApiRouter::new().routes(routes!(exposition)).split_for_parts();
    router
        .fallback(|| async { (StatusCode::NOT_FOUND, "metrics are at /metrics\n") })
        .layer(from_fn(whole))
        .with_state(daemon)
}

/// The OpenAPI document of the agent's socket.
#[must_use]
pub fn openapi() -> OpenApi {
    let (_, document) = listed().split_for_parts();
    document
}

fn listed() -> OpenApiRouter<Daemon> {
    let mut info = Info::new("lyncwall", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "The agent's Unix socket: `curl --unix-socket /run/lyncwall/lyncwall.sock http://lyncwall/v1/status`. `[api]` in \
         the configuration names the groups that may read \
         and change."
            .to_owned(),
    );
    // `Refused` is several answers, so its schema must be added by hand.
    let refusals = ComponentsBuilder::new().schema_from::<api::Refusal>().schema_from::<api::Problem>();
    let empty = OpenApiBuilder::new().info(info).components(Some(refusals.build()));
    OpenApiRouter::with_openapi(empty.build())
        .routes(routes!(alive))
        .routes(routes!(status))
        .routes(routes!(counters))
        .routes(routes!(events))
        .routes(routes!(capture))
        .routes(routes!(explain))
        .routes(routes!(preview))
        .routes(routes!(switch))
        .routes(routes!(mode))
        .routes(routes!(reload))
        .routes(routes!(confirm))
        .routes(routes!(rollback))
        .routes(routes!(blocked))
        .routes(routes!(block))
        .routes(routes!(unblock))
        .routes(routes!(acknowledge))
        .routes(routes!(detach))
        .routes(routes!(document))
        .routes(routes!(exposition))
}

/// Says in every answer which interfaces nobody judges.
async fn unguarded(State(daemon): State<Daemon>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let names: Vec<String> = daemon.unguarded.borrow().iter().map(|on| on.interface.clone()).collect();
    if !names.is_empty() {
        // A header takes no other characters.
        let text: String = names
            .join(", ")
            .chars()
            .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
            .collect();
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().insert(api::UNGUARDED, value);
        }
    }
    response
}

/// Passes a request on if its peer has the right. Serialises requests of users other than root.
async fn allowed(
    State(daemon): State<Daemon>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let right = Right::needed(request.method(), request.uri().path());
    let may = peer.may(right, &daemon.access.borrow());
    if !may {
        if right == Right::Change {
            daemon.shut_out(&peer, request.uri().path());
        }
        return refusal(StatusCode::FORBIDDEN, &peer.refused(right).into());
    }
    // Whether the agent answers must not depend on what it is doing.
    if !peer.is_root() && request.uri().path() != api::ALIVE {
        request.extensions_mut().insert(Turn(Arc::clone(&daemon.turn)));
    }
    if right == Right::Change {
        let asked = format!("{} {}", request.method(), request.uri().path());
        tracing::info!(uid = peer.uid().as_raw(), request = asked, "{} asks: {asked}", peer.asker());
    }
    next.run(request).await
}

/// The gate after the body has arrived: before it, a request would wait for the slowest body.
#[derive(Clone)]
struct Turn(Arc<Semaphore>);

/// Passes a request on once its body has arrived; refuses a body that is too long or too slow.
async fn whole(request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    let turn = head.extensions.remove::<Turn>();
    let is_list = matches!(head.uri.path(), "/v1/block" | "/v1/unblock");
    let is_long = body.size_hint().exact().is_none_or(|bytes| bytes > BODY as u64);
    let longest = if is_list { LIST } else { BODY };
    let _alone = if is_list && is_long && turn.is_some() { LISTS.acquire().await.ok() } else { None };
    let body = match tokio::time::timeout(BODY_TIME, Limited::new(body, longest).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let problem =
                Problem::new(format!("the request is longer than {longest} bytes"), "send it in parts");
            return refusal(StatusCode::PAYLOAD_TOO_LARGE, &problem.into());
        }
        Ok(Err(error)) => {
            let problem = Problem::new(format!("cannot read the request: {error}"), "send it again");
            return refusal(StatusCode::BAD_REQUEST, &problem.into());
        }
        Err(_) => {
            let message = format!("the request took longer than {} s", BODY_TIME.as_secs());
            return refusal(
                StatusCode::REQUEST_TIMEOUT,
                &Problem::new(message, "send it without pauses").into(),
            );
        }
    };
    if let Some(asked) = head.extensions.get::<Asked>() {
        asked.note();
    }
    // The semaphore is never closed.
    let taken = match &turn {
        Some(Turn(turn)) => turn.acquire().await.ok(),
        None => None,
    };
    let response = next.run(Request::from_parts(head, Body::from(body))).await;
    drop(taken);
    response
}

async fn unknown(request: Request) -> Response {
    let problem = Problem::new(
        format!("unknown path {}", request.uri().path()),
        "GET /v1/openapi.json lists all paths; an agent of another version has others",
    );
    refusal(StatusCode::NOT_FOUND, &problem.into())
}

async fn wrong_method(request: Request) -> Response {
    let problem = Problem::new(
        format!("wrong method {} for {}", request.method(), request.uri().path()),
        "GET /v1/openapi.json lists the methods",
    );
    refusal(StatusCode::METHOD_NOT_ALLOWED, &problem.into())
}

fn refusal(status: StatusCode, problems: &Problems) -> Response {
    (status, Json(wire::refusal(problems))).into_response()
}

/// The answer to a failed request.
struct Failure(Error);

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into().into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self.0 {
            Error::Mistakes(problems) => refusal(StatusCode::BAD_REQUEST, &problems),
            Error::Unexpected(error) => {
                let problem = Problem::new(format!("{error:#}"), "");
                refusal(StatusCode::INTERNAL_SERVER_ERROR, &problem.into())
            }
        }
    }
}

/// The refusals that any request may get.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "the OpenAPI document uses it")]
enum Refused {
    /// A mistake of the user; nothing was changed.
    #[response(status = 400)]
    Mistake(api::Refusal),
    /// The peer does not have the right.
    #[response(status = 403)]
    Forbidden(api::Refusal),
    /// The body did not come in time.
    #[response(status = 408)]
    Slow(api::Refusal),
    /// The body is too long.
    #[response(status = 413)]
    Long(api::Refusal),
    /// An unexpected failure.
    #[response(status = 500)]
    Failed(api::Refusal),
}

type Answer<T> = Result<Json<T>, Failure>;

/// Whether the agent answers. It does while other requests wait for each other.
#[utoipa::path(get, path = "/v1/alive", responses((status = 200, description = "The process of the agent", body = api::Alive), Refused))]
async fn alive() -> Json<api::Alive> {
    Json(api::Alive { pid: std::process::id() })
}

/// The state of the firewall.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, description = "The state of the firewall", body = api::Status), Refused))]
async fn status(State(daemon): State<Daemon>) -> Answer<api::Status> {
    Ok(Json(daemon.status().await?))
}

/// Packet counters since the maps were created.
#[utoipa::path(get, path = "/v1/counters", responses((status = 200, description = "Counts, in packets", body = api::Counters), Refused))]
async fn counters(State(daemon): State<Daemon>) -> Answer<api::Counters> {
    Ok(Json(daemon.with(Firewall::counters).await?))
}

/// The effect of a change, without making it.
#[utoipa::path(
    post,
    path = "/v1/preview",
    request_body = api::Preview,
    responses((status = 200, description = "The effect of the change", body = api::Previewed), Refused)
)]
async fn preview(
    State(daemon): State<Daemon>,
    request: Result<Json<api::Preview>, JsonRejection>,
) -> Answer<api::Previewed> {
    let Json(wanted) = request.map_err(|error| unread(&error))?;
    Ok(Json(daemon.with(move |firewall| firewall.preview(&wanted)).await?))
}

/// The body is not the expected JSON.
fn no_json(error: &JsonRejection, fix: &str) -> Problem {
    let fix = match error {
        JsonRejection::MissingJsonContentType(_) => {
            "send the header `Content-Type: application/json` with it"
        }
        _ => fix,
    };
    Problem::new(error.body_text(), fix)
}

/// The request names no roles.
fn unread(error: &JsonRejection) -> Problem {
    no_json(error, "send {\"roles\": [\"…\"]}")
}

/// Gives a target other roles.
#[utoipa::path(
    post,
    path = "/v1/switch",
    request_body = api::Switch,
    responses((status = 200, description = "The effect of the change", body = api::Switched), Refused)
)]
async fn switch(
    State(daemon): State<Daemon>,
    Extension(peer): Extension<Peer>,
    request: Result<Json<api::Switch>, JsonRejection>,
) -> Answer<api::Switched> {
    let Json(wanted) = request.map_err(|error| unread(&error))?;
    let time = wanted.confirm.map(Duration::from_secs);
    let switched = daemon.change(ChangeKind::Switch, peer.asker(), move |firewall| {
        firewall.switch(wanted.target.as_deref(), &wanted.roles, time, wanted.existing)
    });
    Ok(Json(switched.await?))
}

/// Gives a target, or the whole box, another mode.
#[utoipa::path(
    post,
    path = "/v1/mode",
    request_body = api::SetMode,
    responses((status = 200, description = "The effect of the change", body = api::Switched), Refused)
)]
async fn mode(
    State(daemon): State<Daemon>,
    Extension(peer): Extension<Peer>,
    request: Result<Json<api::SetMode>, JsonRejection>,
) -> Answer<api::Switched> {
    let Json(wanted) =
        request.map_err(|error| no_json(&error, "send {\"mode\": \"audit\"}, or \"enforce\""))?;
    let api::SetMode { target, mode, confirm, existing } = wanted;
    let time = confirm.map(Duration::from_secs);
    let switched = daemon.change(ChangeKind::Mode, peer.asker(), move |firewall| {
        firewall.set_mode(target.as_deref(), wire::asked_mode(mode), time, existing)
    });
    Ok(Json(switched.await?))
}

/// The JSON of a body; the default where there is none, or `null`.
fn optional<T: DeserializeOwned + Default>(body: &[u8], fix: &str) -> Result<T, Problem> {
    if body.is_empty() {
        return Ok(T::default());
    }
    let wanted: Option<T> =
        serde_json::from_slice(body).map_err(|error| Problem::new(error.to_string(), fix))?;
    Ok(wanted.unwrap_or_default())
}

/// Reads the configuration again. The body may be missing or `null`.
#[utoipa::path(
    post,
    path = "/v1/reload",
    request_body = Option<api::Reload>,
    responses((status = 200, description = "The effect of the change", body = api::Switched), Refused)
)]
async fn reload(
    State(daemon): State<Daemon>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Answer<api::Switched> {
    let wanted: api::Reload = optional(&body, "send nothing, or {\"confirm\": 60}")?;
    let time = wanted.confirm.map(Duration::from_secs);
    Ok(Json(daemon.reload(peer.asker(), time, wanted.existing).await?))
}

/// Keeps the change that waits for confirmation.
#[utoipa::path(post, path = "/v1/confirm", responses((status = 200, description = "The confirmed state", body = api::Confirmed), Refused))]
async fn confirm(State(daemon): State<Daemon>, Extension(peer): Extension<Peer>) -> Answer<api::Confirmed> {
    let (after, asker) = (daemon.clone(), peer.asker());
    let confirmed = daemon.with(move |firewall| {
        let confirmed =
            firewall.confirm().inspect_err(|error| told::not_done("not confirmed", asker, error))?;
        let generation = confirmed.generation;
        tracing::info!(generation, uid = asker.uid(), "confirmed generation {generation}, asked by {asker}");
        after.retire();
        Ok(confirmed)
    });
    Ok(Json(confirmed.await?))
}

/// Rolls back the change that waits for confirmation.
#[utoipa::path(post, path = "/v1/rollback", responses((status = 200, description = "The effect of the rollback", body = api::Switched), Refused))]
async fn rollback(State(daemon): State<Daemon>, Extension(peer): Extension<Peer>) -> Answer<api::Switched> {
    let (after, asker) = (daemon.clone(), peer.asker());
    let switched = daemon.with(move |firewall| {
        let before = firewall.target_states();
        let switched =
            firewall.rollback().inspect_err(|error| told::not_done("not rolled back", asker, error))?;
        told::rolled_back(asker, &before, &switched);
        after.retire();
        Ok(switched)
    });
    Ok(Json(switched.await?))
}

/// The block-list.
#[utoipa::path(get, path = "/v1/blocked", responses((status = 200, description = "The block-list", body = api::Blocked), Refused))]
async fn blocked(State(daemon): State<Daemon>) -> Answer<api::Blocked> {
    Ok(Json(daemon.with(|firewall| firewall.blocked()).await?))
}

/// Adds prefixes to the block-list.
#[utoipa::path(
    post,
    path = "/v1/block",
    request_body = api::Block,
    responses((status = 200, description = "The change of the block-list", body = api::BlockEdit), Refused)
)]
async fn block(
    State(daemon): State<Daemon>,
    Extension(peer): Extension<Peer>,
    request: Result<Json<api::Block>, JsonRejection>,
) -> Answer<api::BlockEdit> {
    let Json(wanted) = request.map_err(|error| no_json(&error, "send {\"prefixes\": [\"…\"]}"))?;
    let (seconds, asker) = (wanted.seconds, peer.asker());
    let edit = daemon.with(move |firewall| {
        let edit = firewall
            .block(&wanted.prefixes, seconds.map(Duration::from_secs))
            .inspect_err(|error| told::not_done("not blocked", asker, error))?;
        told::blocked("blocked", asker, &edit.prefixes, seconds);
        Ok(edit)
    });
    Ok(Json(edit.await?))
}

/// Removes prefixes from the block-list.
#[utoipa::path(
    post,
    path = "/v1/unblock",
    request_body = api::Unblock,
    responses((status = 200, description = "The change of the block-list", body = api::BlockEdit), Refused)
)]
async fn unblock(
    State(daemon): State<Daemon>,
    Extension(peer): Extension<Peer>,
    request: Result<Json<api::Unblock>, JsonRejection>,
) -> Answer<api::BlockEdit> {
    let Json(wanted) = request.map_err(|error| no_json(&error, "send {\"prefixes\": [\"…\"]}"))?;
    let asker = peer.asker();
    let edit = daemon.with(move |firewall| {
        let edit = firewall
            .unblock(&wanted.prefixes)
            .inspect_err(|error| told::not_done("not unblocked", asker, error))?;
        told::blocked("unblocked", asker, &edit.prefixes, None);
        Ok(edit)
    });
    Ok(Json(edit.await?))
}

/// Acknowledges that stored state was lost: `status` and the metrics stop saying so.
#[utoipa::path(post, path = "/v1/acknowledge", responses((status = 200, description = "What was lost", body = api::Acknowledged), Refused))]
async fn acknowledge(
    State(daemon): State<Daemon>,
    Extension(peer): Extension<Peer>,
) -> Answer<api::Acknowledged> {
    let asker = peer.asker();
    let lost = daemon.with(Firewall::acknowledge).await?;
    tracing::info!(uid = asker.uid(), lost = lost.len(), "acknowledged by {asker}: {}", lost.join("; "));
    Ok(Json(api::Acknowledged { lost }))
}

/// Opens the box, and ends the agent. The body may be missing or `null`. The answer says what is open, and what
/// could not be done.
#[utoipa::path(
    post,
    path = "/v1/detach",
    request_body = Option<api::Detach>,
    responses((status = 200, description = "The result", body = api::Detached), Refused)
)]
async fn detach(
    State(daemon): State<Daemon>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Answer<api::Detached> {
    let wanted: api::Detach = optional(&body, "send nothing, or {\"forget\": true}")?;
    let (detached, _end) = daemon.detach(wanted.forget, peer.asker()).await?;
    Ok(Json(detached?))
}

/// Streams drops from now on, one JSON object a line, until the client leaves. A slow client loses some drops
/// and learns how many; a client that does not read for a minute is disconnected.
#[utoipa::path(
    get,
    path = "/v1/events",
    params(api::Wanted),
    responses((status = 200, description = "Lines of JSON, each with this schema", content_type = "application/x-ndjson", body = api::Line), Refused)
)]
async fn events(
    State(daemon): State<Daemon>,
    wanted: Result<Query<api::Wanted>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(wanted) = wanted.map_err(|error| unasked(&error))?;
    let filter = daemon.filter(wanted).await?;
    if filter.is_of_what_is_not_reported() {
        let problem = Problem::new("`multicast` has no events", "use `lyncwall capture`, or the counters");
        return Err(problem.into());
    }
    let lines = BroadcastStream::new(daemon.events.subscribe()).filter_map(move |sent| match sent {
        Ok(sent) if !filter.wants(&sent.event) => None,
        Ok(sent) => Some(Ok::<_, Infallible>(sent.line.clone())),
        Err(BroadcastStreamRecvError::Lagged(lost)) => Some(Ok(format!("{{\"lost\":{lost}}}\n"))),
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

/// The problem of a bad query parameter.
fn unasked(error: &QueryRejection) -> Problem {
    Problem::new(error.body_text(), "GET /v1/openapi.json lists the parameters")
}

/// Captures dropped packets as a pcapng file, with the reason in each packet's comment. One capture runs at a
/// time.
#[utoipa::path(
    get,
    path = "/v1/capture",
    params(api::Capture),
    responses((status = 200, description = "A pcapng file", content_type = "application/x-pcapng", body = Vec<u8>), Refused)
)]
async fn capture(
    State(daemon): State<Daemon>,
    asked: Result<Query<api::Capture>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(asked) = asked.map_err(|error| unasked(&error))?;
    let body = super::capture::begin(&daemon, &asked).await?;
    Ok(([(header::CONTENT_TYPE, "application/x-pcapng")], body).into_response())
}

/// The program's verdict on a packet, and its reasons. Changes nothing.
#[utoipa::path(
    post,
    path = "/v1/explain",
    request_body = api::Explain,
    responses((status = 200, description = "The verdict on the packet", body = api::Explained), Refused)
)]
async fn explain(
    State(daemon): State<Daemon>,
    request: Result<Json<api::Explain>, JsonRejection>,
) -> Answer<api::Explained> {
    let Json(wanted) = request.map_err(|error| {
        let fix =
            "send {\"from\": \"192.0.2.1\", \"to\": \"198.51.100.1\", \"protocol\": \"tcp\", \"port\": 443}";
        no_json(&error, fix)
    })?;
    let questions = daemon.with(move |firewall| firewall.questions(&wanted)).await?;
    let mut verdicts = Vec::with_capacity(questions.len());
    // One at a time: other requests get in between, as each explanation may load a program.
    for question in questions {
        verdicts.push(daemon.with(move |firewall| firewall.explain(question)).await?);
    }
    Ok(Json(api::Explained { verdicts }))
}

/// This document.
#[utoipa::path(
    get,
    path = "/v1/openapi.json",
    responses((status = 200, description = "OpenAPI 3.1", body = Object), Refused)
)]
async fn document() -> Json<OpenApi> {
    Json(openapi())
}

/// All metrics, as OpenMetrics text.
#[utoipa::path(
    get,
    path = "/metrics",
    responses((status = 200, description = "OpenMetrics text", content_type = "application/openmetrics-text", body = String), Refused)
)]
async fn exposition(State(daemon): State<Daemon>) -> Result<Response, Failure> {
    let text = daemon.expose().await?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text.to_string()).into_response())
}
