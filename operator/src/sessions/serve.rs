//! The sessions endpoint: HTTPS, and whose token it is that comes with a request.
//!
//! May touch: one socket, and the API server's token review. What must stay true: nothing is done for a caller whose token the API
//! server does not know as that of a pod, for our audience; of a pod that is gone a token still counts for some seconds, so the
//! pod itself is looked at, too (by [`super::renew`]).

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use konductor_api::annotations::AUDIENCE;
use konductor_api::duration::GoDuration;
use konductor_primitives::silence::FLOOR;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::Semaphore;

use super::trust::Trust;
use super::{Caller, Request, renew};
use crate::client::{CallError, call};
use crate::index::ObjectKey;
use crate::reconcile::Context;

/// How much silence the sidecar counts on, in milliseconds, or `forever`: a later answer may get lost.
const SILENCE: &str = "Konductor-Silence";
/// A UID and a number.
const MAX_BODY: usize = 128;
/// More at once wait for each other: the API server is asked for each of them.
const AT_ONCE: usize = 32;
/// A sidecar gives up earlier.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Username of a service account, and what is known of the pod that a token is bound to.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

struct Desk {
    context: Arc<Context>,
    trust: Arc<Trust>,
    turns: Semaphore,
}

/// Serves until that fails.
pub(crate) async fn serve(listener: TcpListener, context: Arc<Context>, trust: Arc<Trust>) -> anyhow::Error {
    let served = async {
        let config = RustlsConfig::from_config(trust.serving.server_config()?);
        let desk = Arc::new(Desk { context, trust, turns: Semaphore::new(AT_ONCE) });
        let router = Router::new()
            .route("/v1/renew", post(answer))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(desk);
        axum_server::from_tcp(listener)?
            .acceptor(RustlsAcceptor::new(config).acceptor(NoDelayAcceptor::new()))
            .first_request_timeout(TIMEOUT)
            .serve(router.into_make_service())
            .await?;
        anyhow::Ok(())
    };
    match served.await {
        Ok(()) => anyhow::anyhow!("the sessions endpoint ended"),
        Err(error) => error.context("the sessions endpoint"),
    }
}

async fn answer(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: String) -> Response {
    match tokio::time::timeout(TIMEOUT, desk.renew(&headers, &body)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a renewal did not get through");
            (StatusCode::SERVICE_UNAVAILABLE, "the API server did not take it\n").into_response()
        }
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "it took too long\n").into_response(),
    }
}

impl Desk {
    async fn renew(&self, headers: &HeaderMap, body: &str) -> Result<Response, CallError> {
        let Some(token) = bearer(headers) else {
            return Ok((StatusCode::UNAUTHORIZED, "a bearer token is missing\n").into_response());
        };
        let Some((uid, request)) = asked(headers, body) else {
            return Ok((StatusCode::BAD_REQUEST, "the body is: POD-UID RUN\n").into_response());
        };
        let Ok(_turn) = self.turns.acquire().await else {
            return Ok(StatusCode::SERVICE_UNAVAILABLE.into_response());
        };
        let Some(caller) = review(&self.context.client, token).await? else {
            let why = "the API server does not know this token as that of a pod for konductor.io\n";
            return Ok((StatusCode::UNAUTHORIZED, why).into_response());
        };
        if caller.uid != uid {
            return Ok((StatusCode::FORBIDDEN, "the token is that of another pod\n").into_response());
        }
        let answer = renew(&self.context, &caller, request).await?;
        let (status, trusted) = match answer {
            super::Answer::Held(_) | super::Answer::HeldForever => (StatusCode::OK, self.trust.bundle()),
            super::Answer::Lost(_) => (StatusCode::CONFLICT, String::new()),
            super::Answer::Early => (StatusCode::TOO_EARLY, String::new()),
        };
        Ok((status, format!("{answer}\n{trusted}")).into_response())
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(str::trim)
}

/// Of which pod, and what. Who does not say what they count on counts on the floor.
fn asked<'a>(headers: &HeaderMap, body: &'a str) -> Option<(&'a str, Request)> {
    let (uid, run) = body.trim().split_once(' ')?;
    let nanoseconds = match headers.get(SILENCE).map(|value| value.to_str()) {
        None => i64::try_from(FLOOR.as_nanos()).ok()?,
        Some(Ok("forever")) => i64::MAX,
        Some(Ok(milliseconds)) => milliseconds.parse::<i64>().ok()?.checked_mul(1_000_000)?,
        Some(Err(_)) => return None,
    };
    let counts_on = GoDuration::from_nanoseconds(nanoseconds);
    Some((uid, Request { run: run.parse().ok()?, counts_on }))
}

/// Whose token it is.
async fn review(client: &Client, token: &str) -> Result<Option<Caller>, CallError> {
    let review = TokenReview {
        spec: TokenReviewSpec { token: token.to_owned(), audiences: Some(vec![AUDIENCE.to_owned()]) },
        ..TokenReview::default()
    };
    let api: Api<TokenReview> = Api::all(client.clone());
    Ok(caller(&call(api.create(&PostParams::default(), &review)).await?))
}

fn caller(review: &TokenReview) -> Option<Caller> {
    let status = review.status.as_ref().filter(|status| status.authenticated == Some(true))?;
    if !status.audiences.iter().flatten().any(|audience| audience == AUDIENCE) {
        return None;
    }
    let user = status.user.as_ref()?;
    let (namespace, _) = user.username.as_deref()?.strip_prefix(SERVICE_ACCOUNT)?.split_once(':')?;
    let extra = |key: &str| user.extra.as_ref()?.get(key)?.first().cloned();
    Some(Caller {
        key: ObjectKey { namespace: namespace.to_owned(), name: extra(POD_NAME)? },
        uid: extra(POD_UID)?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn reviewed(change: fn(&mut Value)) -> Option<Caller> {
        let mut review = json!({"metadata": {}, "spec": {}, "status": {
            "authenticated": true,
            "audiences": ["konductor.io"],
            "user": {
                "username": "system:serviceaccount:ns:default",
                "extra": {POD_NAME: ["p"], POD_UID: ["u"]},
            },
        }});
        change(&mut review["status"]);
        caller(&serde_json::from_value(review).unwrap())
    }

    #[test]
    fn only_the_token_of_a_pod_for_our_audience_counts() {
        let key = ObjectKey { namespace: "ns".to_owned(), name: "p".to_owned() };
        assert_eq!(reviewed(|_| {}), Some(Caller { key, uid: "u".to_owned() }));
        assert_eq!(reviewed(|status| status["authenticated"] = json!(false)), None);
        assert_eq!(reviewed(|status| status["audiences"] = json!(["other"])), None);
        assert_eq!(reviewed(|status| status["user"]["extra"] = json!({})), None, "of no pod");
        assert_eq!(reviewed(|status| status["user"]["username"] = json!("admin")), None);
    }

    #[test]
    fn a_request_is_a_uid_and_a_run() {
        let asked = |silence: Option<&'static str>, body: &'static str| {
            let mut headers = HeaderMap::new();
            silence.map(|silence| headers.insert(SILENCE, silence.parse().unwrap()));
            asked(&headers, body).map(|(uid, request)| (uid, request.run, request.counts_on.to_string()))
        };
        let of = |counts_on: &str| Some(("u", 7, counts_on.to_owned()));
        assert_eq!(asked(Some("1500"), "u 7\n"), of("1.5s"));
        assert_eq!(asked(None, "u 7"), of("1m0s"));
        assert!(asked(Some("forever"), "u 7").is_some());
        for (silence, body) in [("9", "u"), ("9", "u x"), ("x", "u 7"), ("-", "u 7")] {
            assert_eq!(asked(Some(silence), body), None, "{silence} {body}");
        }
    }
}
