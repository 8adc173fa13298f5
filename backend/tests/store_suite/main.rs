//! The store through its interface alone: the contract every engine keeps, a comparison with a
//! model in memory, and what only one engine has (files, locks, backups, full disks).

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod admin;
mod backup;
mod common;
mod contract;
mod contract_heartbeats;
mod contract_realms;
mod contract_trust;
mod engine;
mod migration;
mod model;
mod scope;
mod trust;

/// Makes two tests of each function of the contract: every engine keeps all of it.
macro_rules! contract {
    ($group:ident, $module:ident: $($name:ident),+ $(,)?) => {
        mod $group {
            mod sqlite {
                $(
                    #[tokio::test]
                    async fn $name() {
                        crate::$module::$name(&crate::common::sqlite()).await;
                    }
                )+
            }
            mod postgresql {
                $(
                    #[tokio::test]
                    async fn $name() {
                        crate::$module::$name(&crate::common::postgresql()).await;
                    }
                )+
            }
        }
    };
}

contract!(
    snapshots,
    contract:
    a_tenant_belongs_to_the_realm_that_enrolled_it,
    a_tenants_state_follows_what_hosts_read,
    enrolling_again_replaces_or_refuses_the_key,
    putting_a_key_is_the_other_way_round,
    a_snapshot_comes_back_as_it_was_put,
    an_equal_body_keeps_its_generation,
    generations_grow_through_deletions,
    a_foreign_recipient_is_refused,
    the_first_account_wins,
    long_bodies_stream_in_chunks,
    a_slow_reader_survives_a_replacement,
    a_body_over_the_limit_is_refused,
    a_write_can_name_what_it_replaces,
    settings_and_access_rules_are_kept,
    duplicates_are_kept_for_each_agent,
    every_write_is_in_the_audit_log,
    changes_are_told_before_the_writer_is_answered,
    one_refused_write_does_not_fail_its_group,
    totals_are_summed_over_tenants,
    a_closed_store_refuses_everything,
);

contract!(
    realms,
    contract_realms:
    names_and_secrets_are_unique,
    rotation_ends_the_old_secret_now_or_later,
    the_configured_secret_is_the_default_realms,
    a_suspended_realm_is_recognised,
    tokens_have_scopes_and_an_end,
    a_revoked_token_is_nobody,
    the_last_use_of_a_token_is_written,
);

contract!(
    heartbeats,
    contract_heartbeats:
    beats_are_seen_at_once_and_survive_on_disk,
    a_tenant_sees_only_its_own_agents,
    memory_is_bounded_and_flushed_beats_make_room,
    nobody_is_missing_while_beats_are_written,
    odd_beats_are_refused,
    extras_are_kept_until_others_come,
    a_failed_flush_keeps_its_beats,
    flushing_twice_writes_once,
    agents_are_written_under_their_names_when_the_database_lost_rows,
    running_flushes_until_stopped,
    a_clock_that_was_ahead_keeps_no_agent_seen,
);

contract!(
    verified,
    contract_trust:
    a_tenant_of_the_verified_protocol_belongs_to_one_realm,
    an_object_is_written_once,
    a_long_object_streams_in_chunks,
    a_head_is_swapped,
    of_many_writers_one_wins,
    objects_are_listed_in_pages,
    news_are_the_newest_policy_and_all_heads,
    keys_are_registered_and_end,
    publishers_are_few,
    a_join_code_admits_so_many,
    the_last_receipt_of_a_node_is_kept,
    receipts_of_keys_that_the_database_lost_hold_up_nobody,
    a_clock_that_was_ahead_holds_up_no_receipt,
    receipts_that_contradict_each_other_are_a_split_view,
);
