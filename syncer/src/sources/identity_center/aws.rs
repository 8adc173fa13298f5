//! The SDK: how it is configured, how one call is made, and what its errors mean for us.

use std::future::Future;
use std::time::Duration;

use aws_config::imds;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_identitystore::config::interceptors::{AfterDeserializationInterceptorContextRef, InterceptorContext};
use aws_sdk_identitystore::config::retry::{ClassifyRetry, RetryAction};
use aws_sdk_identitystore::config::{ConfigBag, Intercept, RuntimeComponents, SharedHttpClient};
use aws_sdk_identitystore::error::{BoxError, DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::Builder as HttpBuilder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use dirless_wire::AwsAccountId;
use tokio::time::Instant;

use super::super::SourceError;
use super::super::pace::{Line, Pace, backoff};

/// How often the region is asked for again.
const REGION_TRIES: u32 = 2;

/// What the AWS environment provides.
pub(super) struct Surroundings {
    pub(super) sdk: SdkConfig,
    pub(super) metadata: imds::Client,
}

/// Region and credentials from the standard chain: environment, profile, container, IMDSv2.
/// `AWS_ENDPOINT_URL` and its per-service forms are honoured.
pub(super) async fn surroundings(region: Option<&str>) -> Result<Surroundings, SourceError> {
    let http = http();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .operation_attempt_timeout(Duration::from_secs(30))
        .build();
    let retries = RetryConfig::standard()
        .with_max_attempts(4)
        .with_initial_backoff(Duration::from_millis(200));
    let load = || {
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http.clone())
            .timeout_config(timeouts.clone())
            .retry_config(retries.clone());
        if let Some(region) = region {
            loader = loader.region(Region::new(region.to_owned()));
        }
        loader.load()
    };
    let mut sdk = load().await;
    for _ in 0..REGION_TRIES {
        if sdk.region().is_some() {
            break;
        }
        // The SDK takes a busy metadata service (429) for one that knows no region.
        tokio::time::sleep(Duration::from_millis(300)).await;
        sdk = load().await;
    }
    if sdk.region().is_none() {
        return Err(SourceError::Setup(
            "no AWS region: set [identity_center] region, or AWS_REGION, or run on an EC2 instance".to_owned(),
        ));
    }
    let metadata = metadata(&http);
    Ok(Surroundings { sdk, metadata })
}

/// rustls with ring: the SDK's default features would bring a second TLS stack.
pub(super) fn http() -> SharedHttpClient {
    HttpBuilder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https()
}

/// The instance metadata service, version 2.
pub(super) fn metadata(http: &SharedHttpClient) -> imds::Client {
    let provider = ProviderConfig::without_region().with_http_client(http.clone());
    imds::Client::builder().configure(&provider).build()
}

/// The client for users, groups and memberships.
pub(super) fn identity_store(sdk: &SdkConfig) -> aws_sdk_identitystore::Client {
    let config = aws_sdk_identitystore::config::Builder::from(sdk)
        .interceptor(RequireList)
        .retry_classifier(LeaveThrottlingToThePace)
        .build();
    aws_sdk_identitystore::Client::from_conf(config)
}

/// The identity store of the one Identity Center instance.
pub(super) async fn only_store(sdk: &SdkConfig) -> Result<String, SourceError> {
    let client = aws_sdk_ssoadmin::Client::new(sdk);
    let pace = Pace::new(Instant::now());
    let reply = call("ListInstances", &pace, Line::Chain, || client.list_instances().send()).await?;
    let instances = reply.instances.unwrap_or_default();
    let mut stores = instances.into_iter().filter_map(|instance| instance.identity_store_id);
    match (stores.next(), stores.next()) {
        (Some(store), None) => Ok(store),
        (None, _) => Err(SourceError::Setup(
            "ListInstances shows no Identity Center instance in this account and region: check [identity_center] \
             region, or name the store with [identity_center] identity_store_id"
                .to_owned(),
        )),
        (Some(first), Some(second)) => Err(SourceError::Setup(format!(
            "ListInstances shows more than one Identity Center instance (stores {first}, {second}, ...): choose one \
             with [identity_center] identity_store_id"
        ))),
    }
}

/// The account of the EC2 instance this runs on, from its identity document.
pub(super) async fn account_of_instance(metadata: &imds::Client) -> Result<AwsAccountId, SourceError> {
    let advice = "set [identity_center] account_id, or run on an EC2 instance";
    let document = metadata
        .get("/latest/dynamic/instance-identity/document")
        .await
        .map_err(|error| {
            let cause = DisplayErrorContext(&error);
            SourceError::Setup(format!("the AWS account id is unknown ({cause}): {advice}"))
        })?;
    AwsAccountId::of_identity_document(document.as_ref().as_bytes())
        .map_err(|error| SourceError::Setup(format!("{error}: {advice}")))
}

/// Makes one call at the common pace and repeats it for as long as it is throttled; the deadline
/// of the whole read ends that.
pub(super) async fn call<O, E, F>(
    operation: &'static str,
    pace: &Pace,
    line: Line,
    send: impl Fn() -> F,
) -> Result<O, SourceError>
where
    F: Future<Output = Result<O, SdkError<E>>>,
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let mut repeats = 0;
    loop {
        pace.turn(line).await;
        match send().await {
            Ok(reply) => {
                pace.succeeded(Instant::now());
                return Ok(reply);
            }
            Err(error) if is_throttling(&error) => {
                pace.throttled(Instant::now());
                tracing::debug!(operation, repeats, "throttled");
                tokio::time::sleep(backoff(line, repeats, rand::random())).await;
                repeats += 1;
            }
            Err(error) => return Err(classify(operation, &error)),
        }
    }
}

fn is_throttling<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    let code = error
        .as_service_error()
        .and_then(ProvideErrorMetadata::code)
        .unwrap_or("");
    let status = error.raw_response().map(|response| response.status().as_u16());
    status == Some(429) || matches!(code, "ThrottlingException" | "Throttling" | "TooManyRequestsException")
}

fn classify<E>(operation: &'static str, error: &SdkError<E>) -> SourceError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let service = error.as_service_error();
    let code = service.and_then(ProvideErrorMetadata::code).unwrap_or("");
    let reason = match service.and_then(ProvideErrorMetadata::message) {
        Some(message) => format!("{code}: {message}"),
        None => DisplayErrorContext(error).to_string(),
    };
    match code {
        "AccessDeniedException"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "MissingAuthenticationTokenException" => SourceError::Denied { operation, reason },
        "ResourceNotFoundException" if operation == "ListGroupMemberships" => {
            SourceError::Inconsistent(format!("a group vanished while its members were read ({reason})"))
        }
        "ResourceNotFoundException" => SourceError::Setup(format!(
            "{operation}: {reason}: check [identity_center] identity_store_id and region"
        )),
        _ => SourceError::Unavailable { operation, reason },
    }
}

/// A reply without its list is no empty list. The SDK fills the gap with nothing, so that half a
/// reply (or some other service's) would read as an empty directory.
#[derive(Debug)]
struct RequireList;

impl Intercept for RequireList {
    fn name(&self) -> &'static str {
        "RequireList"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        let body = response.body().bytes().unwrap_or_default();
        let lists: [&[u8]; 3] = [b"\"Users\"", b"\"Groups\"", b"\"GroupMemberships\""];
        if response.status().is_success() && !lists.iter().any(|list| contains(body, list)) {
            return Err("the reply holds no list of users, groups or memberships".into());
        }
        Ok(())
    }
}

/// Throttled calls are repeated by [`call`], which slows all callers down; the SDK would repeat
/// each by itself and spend its retry quota on it.
#[derive(Debug)]
struct LeaveThrottlingToThePace;

impl ClassifyRetry for LeaveThrottlingToThePace {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let throttled = context.response().is_some_and(|response| {
            let body = response.body().bytes().unwrap_or_default();
            !response.status().is_success() && contains(body, b"ThrottlingException")
                || response.status().as_u16() == 429
        });
        if throttled {
            RetryAction::RetryForbidden
        } else {
            RetryAction::NoActionIndicated
        }
    }

    fn name(&self) -> &'static str {
        "LeaveThrottlingToThePace"
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::contains;

    #[test]
    fn parts_are_found_anywhere() {
        assert!(contains(b"{\"Users\":[]}", b"\"Users\""));
        assert!(!contains(b"{}", b"\"Users\""));
        assert!(!contains(b"", b"\"Users\""));
    }
}
