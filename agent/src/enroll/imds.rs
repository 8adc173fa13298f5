//! The AWS account of an EC2 host, from its own metadata service (IMDSv2).

use std::time::Duration;

use dirless_program::Lookup;
use dirless_wire::AwsAccountId;

/// Where every EC2 host finds it.
const ENDPOINT: &str = "http://169.254.169.254";
/// Longest document, in bytes; real ones have about 500.
const LONGEST: usize = 64 * 1024;

/// Asks for the account. `AWS_EC2_METADATA_SERVICE_ENDPOINT` names another endpoint, for root only:
/// enrolment writes to `/etc` and trusts the answer.
pub(crate) async fn account(environment: Lookup<'_>) -> Result<AwsAccountId, String> {
    let endpoint = environment("AWS_EC2_METADATA_SERVICE_ENDPOINT")
        .filter(|endpoint| !endpoint.is_empty() && rustix::process::geteuid().is_root())
        .unwrap_or_else(|| ENDPOINT.to_owned());
    fetch(endpoint.trim_end_matches('/')).await
}

async fn fetch(endpoint: &str) -> Result<AwsAccountId, String> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(2))
        .timeout(Duration::from_secs(5))
        .build()
        .map_err(|error| error.to_string())?;
    let token = answer(
        client
            .put(format!("{endpoint}/latest/api/token"))
            .header("x-aws-ec2-metadata-token-ttl-seconds", "60"),
    )
    .await?;
    let document = answer(
        client
            .get(format!("{endpoint}/latest/dynamic/instance-identity/document"))
            .header("x-aws-ec2-metadata-token", token.trim_ascii()),
    )
    .await?;
    AwsAccountId::of_identity_document(&document).map_err(|error| error.to_string())
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Vec<u8>, String> {
    let unreachable = |error: reqwest::Error| {
        let reason = if error.is_timeout() {
            "it does not answer in time"
        } else {
            "it cannot be reached"
        };
        format!("no EC2 metadata service: {reason}")
    };
    let mut response = request.send().await.map_err(unreachable)?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(format!("the EC2 metadata service answers {}", response.status()));
    }
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(unreachable)? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > LONGEST {
            return Err("the EC2 metadata service sends too much".to_owned());
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use wiremock::matchers::{header, method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;

    async fn service(document: &str) -> MockServer {
        dirless_program::command::start();
        let server = MockServer::start().await;
        Mock::given(method("PUT"))
            .and(path("/latest/api/token"))
            .and(header("x-aws-ec2-metadata-token-ttl-seconds", "60"))
            .respond_with(ResponseTemplate::new(200).set_body_string("T0KEN"))
            .mount(&server)
            .await;
        Mock::given(method("GET"))
            .and(path("/latest/dynamic/instance-identity/document"))
            .and(header("x-aws-ec2-metadata-token", "T0KEN"))
            .respond_with(ResponseTemplate::new(200).set_body_string(document))
            .mount(&server)
            .await;
        server
    }

    #[tokio::test]
    async fn the_account_comes_from_the_identity_document() {
        let server = service(r#"{"accountId":"012345678901","region":"eu-west-1"}"#).await;
        assert_eq!(fetch(&server.uri()).await.unwrap().as_str(), "012345678901");
    }

    #[tokio::test]
    async fn what_is_no_document_is_an_error() {
        for document in ["", "{}", "[]", r#"{"accountId":12}"#, r#"{"accountId":"12"}"#] {
            let server = service(document).await;
            assert!(fetch(&server.uri()).await.is_err(), "{document}");
        }
        let server = service(&"x".repeat(LONGEST + 1)).await;
        assert!(fetch(&server.uri()).await.unwrap_err().contains("too much"));
        let nobody = fetch("http://127.0.0.1:9").await.unwrap_err();
        assert!(nobody.contains("cannot be reached"), "{nobody}");
    }
}
