use super::support::{SECRET, Site, TENANT, ask};

#[test]
fn a_tenant_that_asks_too_often_is_told_when_to_come_back() {
    let site = Site::enrolled_with("[limits]\ntenant_per_minute = 6\ntenant_burst = 4\n");
    // Enrolling took one.
    let statuses: Vec<u16> = (0..5).map(|_| site.get("/v1/snapshot/authz-config").status).collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    let refused = site.get("/v1/snapshot/authz-config");
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=10).contains(&seconds), "{seconds}");
    refused.expect_error(429, "rate_limited");
    site.enroll(SECRET, "another", super::support::KEY).expect_status(200);
}

#[test]
fn an_address_that_asks_too_often_is_refused_before_anything_else() {
    let site = Site::with("[limits]\naddress_per_minute = 6\naddress_burst = 3\n");
    let from = |address: &str| {
        ask("GET", "/v1/health")
            .header("X-Forwarded-For", address)
            .send(&site)
            .status
    };
    assert_eq!(
        [
            from("192.0.2.1"),
            from("192.0.2.1"),
            from("192.0.2.1"),
            from("192.0.2.1")
        ],
        [200, 200, 200, 429]
    );
    assert_eq!(from("192.0.2.2"), 200);
    // One customer of an IPv6 provider is one client.
    assert_eq!(
        [
            from("2001:db8::1"),
            from("2001:db8::2"),
            from("2001:db8::3"),
            from("2001:db8::4")
        ],
        [200, 200, 200, 429]
    );
}

#[test]
fn guessing_costs_more_than_asking() {
    let site = Site::enrolled_with(
        "[limits]\naddress_per_minute = 600\naddress_burst = 300\nfailed_authentication_cost = 100\n",
    );
    let as_client = |address: &str, secret: &str| {
        ask("GET", "/v1/snapshot/authz-config")
            .header("X-Forwarded-For", address)
            .tenant(secret, TENANT)
            .send(&site)
            .status
    };
    let guesses: Vec<u16> = (0..6).map(|_| as_client("192.0.2.1", "guess")).collect();
    assert_eq!(guesses, [401, 401, 401, 401, 429, 429]);
    // Held whatever it presents; others are not.
    assert_eq!(as_client("192.0.2.1", SECRET), 429);
    assert_eq!(as_client("192.0.2.2", SECRET), 200);
}

#[test]
fn probes_without_credentials_are_not_guesses() {
    let site = Site::enrolled_with(
        "[limits]\naddress_per_minute = 600\naddress_burst = 300\nfailed_authentication_cost = 100\n",
    );
    for _ in 0..20 {
        ask("GET", "/v1/snapshot/aws-identity-center")
            .send(&site)
            .expect_status(401);
    }
    site.get("/v1/snapshot/authz-config").expect_status(200);
}
