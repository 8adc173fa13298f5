//! Result codes (RFC 4511 section 4.1.9 and the registries of RFC 4520).

/// The outcome of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum ResultCode {
    /// Done.
    Success = 0,
    /// The order of operations does not allow it.
    OperationsError = 1,
    /// The request is malformed.
    ProtocolError = 2,
    /// The time limit was reached.
    TimeLimitExceeded = 3,
    /// The size limit was reached.
    SizeLimitExceeded = 4,
    /// The assertion does not hold.
    CompareFalse = 5,
    /// The assertion holds.
    CompareTrue = 6,
    /// Not with that authentication method.
    AuthMethodNotSupported = 7,
    /// Bind first.
    StrongerAuthRequired = 8,
    /// A limit of the server was reached.
    AdminLimitExceeded = 11,
    /// A critical control is not known or does not fit the operation.
    UnavailableCriticalExtension = 12,
    /// Start TLS first.
    ConfidentialityRequired = 13,
    /// The attribute is absent.
    NoSuchAttribute = 16,
    /// The attribute is not defined.
    UndefinedAttributeType = 17,
    /// The attribute has no such matching rule.
    InappropriateMatching = 18,
    /// A value breaks a constraint.
    ConstraintViolation = 19,
    /// The value is there already.
    AttributeOrValueExists = 20,
    /// A value does not follow its syntax.
    InvalidAttributeSyntax = 21,
    /// There is no such entry.
    NoSuchObject = 32,
    /// The name is malformed.
    InvalidDnSyntax = 34,
    /// Anonymous binds or missing passwords are not taken here.
    InappropriateAuthentication = 48,
    /// Wrong name or password.
    InvalidCredentials = 49,
    /// Not for this client.
    InsufficientAccessRights = 50,
    /// Too much at once; try again later.
    Busy = 51,
    /// The directory cannot answer now.
    Unavailable = 52,
    /// The server does not do that.
    UnwillingToPerform = 53,
    /// The name is not allowed there.
    NamingViolation = 64,
    /// The entry breaks the schema.
    ObjectClassViolation = 65,
    /// Only entries without subordinates.
    NotAllowedOnNonLeaf = 66,
    /// The attribute names the entry.
    NotAllowedOnRdn = 67,
    /// The entry is there already.
    EntryAlreadyExists = 68,
    /// Structural classes do not change.
    ObjectClassModsProhibited = 69,
    /// Something unexpected.
    Other = 80,
    /// The operation was cancelled (RFC 3909).
    Canceled = 118,
    /// There is no such operation (RFC 3909).
    NoSuchOperation = 119,
    /// The operation is past cancelling (RFC 3909).
    TooLate = 120,
    /// The operation cannot be cancelled (RFC 3909).
    CannotCancel = 121,
    /// The assertion control does not hold (RFC 4528).
    AssertionFailed = 122,
    /// The consumer must read everything again (RFC 4533).
    SyncRefreshRequired = 4096,
}

impl ResultCode {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        self as u16
    }
}
