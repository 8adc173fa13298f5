use std::collections::VecDeque;
use std::time::Duration;

use dirless_wire::{NOTICES_MEDIA_TYPE, Notice, NoticeReader};
use http::{Method, StatusCode};

use crate::reply::{Answer, Failure, Reader};
use crate::transport::{Call, Pace};
use crate::{Client, Error};

/// Longest silence of a stream: backends break theirs every 30 seconds.
const PATIENCE: Duration = Duration::from_secs(95);

/// An open request on which a backend tells what is new.
#[derive(Debug)]
pub struct Watch {
    answer: Answer,
    reader: NoticeReader,
    waiting: VecDeque<Notice>,
}

impl Client {
    /// `GET /v1/watch`, or where requests are signed `GET /v2/{tenant}/watch`: opens a stream of notices at one of the
    /// healthy backends; `None` when it knows no such thing, as deployed ones.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn watch(&self) -> Result<Option<Watch>, Error> {
        if self.signs() {
            return self.watch_tenant().await;
        }
        let call = Call {
            pace: Pace::Watch,
            ..Call::new(Method::GET, "/v1/watch")
        };
        self.cycle().run(&call, &mut Opening).await
    }

    /// `GET /v2/{tenant}/watch`, by key or by an operator's token: heads as they are stored.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn watch_tenant(&self) -> Result<Option<Watch>, Error> {
        let cycle = self.cycle();
        let call = Call {
            pace: Pace::Watch,
            ..cycle.signed(Method::GET, "watch")
        };
        cycle.run(&call, &mut Opening).await
    }
}

struct Opening;

impl Reader for Opening {
    type Output = Option<Watch>;

    async fn read(&mut self, answer: Answer) -> Result<Option<Watch>, Failure> {
        let status = answer.status();
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let media_type = answer.text_header("content-type").unwrap_or_default();
        if status != StatusCode::OK || !media_type.starts_with(NOTICES_MEDIA_TYPE) {
            return Err(answer.malformed(format!("status {status}, {media_type:?}: it is no stream of notices")));
        }
        Ok(Some(Watch {
            answer,
            reader: NoticeReader::default(),
            waiting: VecDeque::new(),
        }))
    }
}

impl Watch {
    /// The backend that tells.
    #[must_use]
    pub fn backend(&self) -> &str {
        &self.answer.backend
    }

    /// The next notice; `None` when the stream is over, broken off or silent for too long: open another.
    pub async fn next(&mut self) -> Option<Notice> {
        while self.waiting.is_empty() {
            let piece = tokio::time::timeout(PATIENCE, self.answer.chunk()).await;
            let piece = piece.ok()?.ok()??;
            let waiting = &mut self.waiting;
            self.reader.push(&piece, |notice| waiting.push_back(notice)).ok()?;
        }
        self.waiting.pop_front()
    }
}
