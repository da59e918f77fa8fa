//! The connection to the API server.
//!
//! kube's own stack retries for minutes and never times out; on the path of a hand-over neither is wanted. So the
//! stack is put together here: no retries (whoever called knows better what to do), Nagle off, keepalive on, and
//! every call has a deadline. Lists and watches are no calls of ours, so their answers have one in the transport: one that
//! never began would leave a cache as it is for ever. Each request is counted: who waits idly must cost none.

use std::fmt::Debug;
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use axum::http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use kube::client::{Body, ClientBuilder, ConfigExt};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use serde::de::DeserializeOwned;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};

/// Longer than any call takes while the API server is well.
const DEADLINE: Duration = Duration::from_secs(10);

/// Within which an answer begins, a list of everything too: the API server itself gives up after a minute.
const ANSWER: Duration = Duration::from_secs(65);

/// Requests to the API server, by what they were.
#[derive(Clone, Debug, Default)]
pub struct Requests(pub(crate) Family<Verb, Counter>);

/// `watch`, or the method.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Verb {
    verb: String,
}

impl Requests {
    fn count(&self, request: &http::Request<Body>) {
        let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let verb = if watches { "watch".to_owned() } else { request.method().as_str().to_lowercase() };
        self.0.get_or_create(&Verb { verb }).inc();
    }
}

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("{0}")]
    Api(#[from] kube::Error),
    #[error("no answer from the API server in {} s", DEADLINE.as_secs())]
    Timeout,
}

impl CallError {
    fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Api(kube::Error::Api(status)) => Some(status),
            _ => None,
        }
    }

    /// The version that the write named is not the present one.
    pub(crate) fn is_conflict(&self) -> bool {
        self.status().is_some_and(|status| status.code == 409)
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.status().is_some_and(|status| status.code == 404)
    }

    /// The object changed in a way that forbids the write: another UID, or it is being deleted and takes no new
    /// finalizer.
    pub(crate) fn is_invalid(&self) -> bool {
        self.status().is_some_and(|status| status.code == 422)
    }
}

/// One call, with its deadline.
pub(crate) async fn call<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    match tokio::time::timeout(DEADLINE, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(CallError::Timeout),
    }
}

/// Deletes this very object, and says whether it was there to be deleted: not another one of its name.
pub(crate) async fn delete_this<K>(api: &Api<K>, metadata: &ObjectMeta) -> Result<bool, CallError>
where
    K: Clone + Debug + DeserializeOwned,
{
    let this = Preconditions { uid: metadata.uid.clone(), resource_version: None };
    let parameters = DeleteParams { preconditions: Some(this), ..DeleteParams::default() };
    match call(api.delete(metadata.name.as_deref().unwrap_or_default(), &parameters)).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(false),
        Err(error) => Err(error),
    }
}

/// A client for the cluster that the process runs in, or that its kubeconfig names.
pub(crate) async fn connect(requests: &Requests) -> anyhow::Result<kube::Client> {
    let config = kube::Config::infer().await?;
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_keepalive(Some(Duration::from_secs(30)));
    connector.set_connect_timeout(Some(DEADLINE));
    let https = config.rustls_https_connector_with_connector(connector)?;
    let transport = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(https);
    let requests = requests.clone();
    let service = ServiceBuilder::new()
        .map_request(move |request: http::Request<Body>| {
            requests.count(&request);
            request
        })
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .map_err(BoxError::from)
        .service(transport);
    Ok(over(service, &config.default_namespace))
}

/// A client over that transport, by which every answer begins in time or is none.
pub fn over<S, B>(transport: S, namespace: &str) -> kube::Client
where
    S: Service<http::Request<Body>, Response = http::Response<B>, Error = BoxError> + Send + 'static,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let in_time = transport.map_future(|answer| async {
        tokio::time::timeout(ANSWER, answer).await.unwrap_or_else(|late| Err(BoxError::from(late)))
    });
    ClientBuilder::new(in_time, namespace).build()
}
