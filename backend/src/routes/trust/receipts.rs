//! Signs of life of nodes, and their signed receipts.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dirless_wire::trust::{KeyRole, RECEIPT_MAX, ReceiptList, ReceiptReply};
use http::StatusCode;

use super::asked::{Asked, Listing, Wanted, admit, forbidden, publisher_or_operator};
use super::times::time;
use crate::app::App;
use crate::http::{Failure, json, status_ok};
use crate::store::{Absorbed, Caller};

/// A node is alive. The body is the receipt of what it applied; none leaves the one before.
pub(super) async fn beat(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let wanted = Wanted {
        longest: RECEIPT_MAX,
        digest: None,
        may: &|caller| matches!(caller, Caller::Key(key) if key.role() == KeyRole::Node),
    };
    let Asked { tenant, body, .. } = admit(&app, request, wanted).await?;
    let Caller::Key(key) = tenant.caller() else {
        return Err(forbidden());
    };
    let beat = app.heartbeats.node_beat(&tenant, key.id().name().as_str());
    let receipt = body.in_memory().cloned().unwrap_or_default();
    if beat == Absorbed::Full || !tenant.put_receipt(&receipt) {
        return Err(Failure::unavailable("too many heartbeats wait for the disk", 5));
    }
    Ok(status_ok())
}

/// The last receipt of each node.
pub(super) async fn list(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let asked = admit(&app, request, Wanted::nothing(&publisher_or_operator)).await?;
    let listing = Listing::of(&asked.parts.uri)?;
    let page = asked.tenant.receipts(&listing.after, listing.limit()).await?;
    let next = page
        .more
        .then(|| page.entries.last().map(|last| last.node.clone()))
        .flatten();
    let receipts = page.entries.into_iter().map(|receipt| ReceiptReply {
        node: receipt.node,
        received_at: time(receipt.received_at),
        receipt: STANDARD.encode(&receipt.bytes),
    });
    let list = ReceiptList {
        receipts: receipts.collect(),
        next,
    };
    Ok(json(StatusCode::OK, &list))
}
