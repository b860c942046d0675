//! Exit statuses of the in-container commands (containers.md §14.3).

use std::process::ExitCode;

/// What a command ends with. Scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    /// Conflict, rejected.
    Conflict = 1,
    NotFound = 2,
    /// The secret of the run is not (or no longer) valid.
    SecretInvalid = 3,
    /// The request was refused as it is.
    Refused = 4,
    /// The gateway is not ready, or there is none.
    NotReady = 5,
    /// No connection, or no answer in time.
    Unreachable = 6,
    /// Any other status, an unreadable answer, an error with a local file.
    Unexpected = 7,
    /// `al-wait`: the time is over.
    Deadline = 8,
    Usage = 9,
    BadGateway = 10,
    GatewayTimeout = 11,
    ServerError = 12,
}

impl Exit {
    /// The exit status of an HTTP status; the body has no say.
    pub fn of_http(status: u16) -> Self {
        match status {
            200 => Self::Done,
            409 => Self::Conflict,
            404 => Self::NotFound,
            403 => Self::SecretInvalid,
            400 => Self::Refused,
            503 => Self::NotReady,
            502 => Self::BadGateway,
            504 => Self::GatewayTimeout,
            500 => Self::ServerError,
            _ => Self::Unexpected,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_number() {
        #[track_caller]
        fn case(status: u16, expected: u8) {
            assert_eq!(Exit::of_http(status) as u8, expected);
        }
        case(200, 0);
        case(409, 1);
        case(404, 2);
        case(403, 3);
        case(400, 4);
        case(503, 5);
        case(502, 10);
        case(504, 11);
        case(500, 12);
        for other in [201, 204, 302, 401, 413, 418, 429, 501, 999] {
            case(other, 7);
        }
    }
}
