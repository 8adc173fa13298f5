//! Tenant scope: what one realm can reach of another's data, which is nothing.

use crate::common::{credential, open, put, tenant};

#[tokio::test]
async fn every_way_to_another_realms_tenant_is_the_same_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mine = tenant(&store, "acme", "mine").await;
    put(&mine, "local", b"mine").await;
    let theirs = tenant(&store, "other", "theirs").await;
    put(&theirs, "local", b"theirs").await;
    let acme = credential(&store, "acme").await;
    for id in ["theirs", "nobody", "", "MINE", "mine ", "aws___mine"] {
        assert!(store.tenant(&acme, id).is_none(), "{id:?}");
    }
    assert!(store.tenant(&acme, "mine").is_some());
}

#[tokio::test]
async fn a_handle_shows_its_own_tenant_only() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (one, two) = (tenant(&store, "acme", "t1").await, tenant(&store, "acme", "t2").await);
    put(&one, "local", b"one").await;
    one.put_setting("k", "v", crate::common::origin()).await.unwrap();
    one.put_duplicates(None, &["alice".into()], crate::common::origin())
        .await
        .unwrap();
    assert!(two.sources().await.unwrap().is_empty());
    assert!(two.settings().await.unwrap().is_empty());
    assert!(two.duplicates().await.unwrap().is_empty());
    assert!(
        two.audit(0, 10)
            .await
            .unwrap()
            .iter()
            .all(|line| line.tenant.as_ref() == Some(two.tenant()))
    );
}
