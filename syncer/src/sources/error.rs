use std::time::Duration;

/// Why a source could not be read. Nothing is published after any of them.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The configuration or the surroundings lack something.
    #[error("{0}")]
    Setup(String),
    /// No valid credentials, or they lack a permission. Waiting does not help.
    #[error(
        "AWS refused {operation}: {reason}; give the role identitystore:ListUsers, ListGroups, \
         ListGroupMemberships and sso:ListInstances, and check that its credentials are current"
    )]
    Denied {
        /// The call.
        operation: &'static str,
        /// The service's code and message.
        reason: String,
    },
    /// A directory server refused the bind or the search. Waiting does not help.
    #[error("the server refused the {operation}: {reason}; check bind_dn, its password and its rights")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// The server's answer.
        reason: String,
    },
    /// The service failed or could not be reached, also after retries. Waiting may help.
    #[error("{operation} failed: {reason}")]
    Unavailable {
        /// The call.
        operation: &'static str,
        /// Code, message and causes.
        reason: String,
    },
    /// The read was not done in time.
    #[error(
        "the read was not complete after {} s ({progress}); raise [identity_center] deadline_seconds, \
         or ask AWS for a higher Identity Store quota",
        after.as_secs()
    )]
    Deadline {
        /// The limit.
        after: Duration,
        /// How far it got.
        progress: String,
    },
    /// The replies contradict each other: the source changed while it was read. Reading again helps.
    #[error("the source's replies do not fit together: {0}")]
    Inconsistent(String),
}
