use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{AgePublicKey, ETag, SourceName};

/// Everything that hosts read of a tenant, by its tags: what `GET /v1/snapshot` answers. Its own tag
/// changes exactly when one of these does, whichever backend makes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantState {
    /// Tag of the snapshot of each source that was ever written; `null` after a deletion.
    #[schema(value_type = BTreeMap<String, Option<String>>)]
    pub sources: BTreeMap<SourceName, Option<ETag>>,
    /// Tag of the access rules, once there are any.
    #[schema(value_type = Option<String>)]
    pub authz_config: Option<ETag>,
    /// The SSH CA key that is proposed.
    pub ca_public_key: Option<String>,
    /// The registered age key.
    pub public_key: AgePublicKey,
}
