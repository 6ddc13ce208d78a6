//! What every handler shares, and how it gets a body.

use std::panic::resume_unwind;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use engine::Limits;
use http::{HeaderMap, Request, header};
use http_body_util::BodyExt;
use text::{ChatTemplate, Tokenizer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{ServerConfig, ServerInfo};
use crate::dispatch::Dispatch;
use crate::grammars::Grammars;
use crate::keys::Caller;
use crate::limits::{
    BODIES_BYTES_IN_FLIGHT, BODY_BYTES, BODY_READ_TIMEOUT, INLINE_BODY_BYTES, LARGE_BODIES,
};
use crate::metrics::Panics;
use crate::openai::error::{ApiError, SHUTTING_DOWN};
use crate::shutdown::Shutdown;
use crate::traffic::Traffic;
use crate::validate::Door;

/// What every handler shares.
pub struct App {
    /// Settings.
    pub config: ServerConfig,
    /// What is served.
    pub info: Arc<ServerInfo>,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// Its chat template.
    pub template: Option<ChatTemplate>,
    /// Compiles what answers must look like.
    pub grammars: Grammars,
    /// What the engine can serve.
    pub limits: Limits,
    /// The way to the engine.
    pub dispatch: Arc<Dispatch>,
    /// Panics of requests' code.
    pub panics: Panics,
    /// What came over HTTP.
    pub traffic: Traffic,
    /// Whether the server is about to end.
    pub shutdown: Shutdown,
    /// Room for bodies, in bytes.
    pub bodies: Arc<Semaphore>,
    /// Turns for large bodies to be parsed and tokenised.
    pub large_bodies: Arc<Semaphore>,
    /// When the server started, in Unix seconds.
    pub started: u64,
}

/// A body, and the room it takes until it is dropped.
#[derive(Debug)]
pub struct Received {
    /// The bytes.
    pub bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl App {
    /// Room for all bodies.
    pub fn body_room() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(BODIES_BYTES_IN_FLIGHT))
    }

    /// Turns for all large bodies.
    pub fn large_body_turns() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(LARGE_BODIES))
    }

    /// Refuses new work during a drain. (A stopped engine refuses by itself, at submit.)
    pub fn admit(&self) -> Result<(), ApiError> {
        if self.shutdown.is_draining() {
            return Err(ApiError::Unavailable { reason: SHUTTING_DOWN });
        }
        Ok(())
    }

    /// The door for this server's model, at which `caller` stands.
    pub fn door(&self, caller: Caller) -> Door<'_> {
        Door {
            caller,
            info: &self.info,
            tokenizer: &self.tokenizer,
            template: self.template.as_ref(),
            limits: self.limits,
            sampling: &self.config.sampling,
            samples_max: self.config.samples_max,
        }
    }

    /// Reads a JSON body: declared as such, not too large, in time, and while there is room.
    pub async fn receive(&self, request: Request<Body>) -> Result<Received, ApiError> {
        check_media_type(request.headers())?;
        let declared = request
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if declared.is_some_and(|length| BODY_BYTES < length) {
            return Err(ApiError::BodyTooLarge { limit: BODY_BYTES });
        }
        match tokio::time::timeout(BODY_READ_TIMEOUT, self.read(request.into_body())).await {
            Ok(received) => received,
            Err(_) => Err(ApiError::BodyTimeout { seconds: BODY_READ_TIMEOUT.as_secs() }),
        }
    }

    /// Reads a body and takes room for each piece when it comes: a client that declares much and
    /// sends nothing takes none.
    async fn read(&self, mut body: Body) -> Result<Received, ApiError> {
        let mut bytes = BytesMut::new();
        let mut room = self.room(0)?;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                let message = format!("the body broke off: {error}");
                ApiError::Invalid { param: None, message }
            })?;
            // Trailers say nothing here.
            let Ok(data) = frame.into_data() else { continue };
            if BODY_BYTES < bytes.len() + data.len() {
                return Err(ApiError::BodyTooLarge { limit: BODY_BYTES });
            }
            room.merge(self.room(data.len())?);
            bytes.extend_from_slice(&data);
        }
        Ok(Received { bytes: bytes.freeze(), _room: room })
    }

    /// Room for so many bytes, at most all that there is; never waits, so that bodies that are half
    /// read cannot wait for one another.
    pub fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let permits = u32::try_from(bytes).expect("no more than there is room in all");
        Arc::clone(&self.bodies).try_acquire_many_owned(permits).map_err(|_| {
            let reason =
                "too many large requests and replies are held at the moment; try again later";
            ApiError::Unavailable { reason }
        })
    }

    /// Runs `work` on a body: small ones here, large ones beside the network thread.
    pub async fn work_on<T: Send + 'static>(
        self: &Arc<Self>,
        received: Received,
        work: impl FnOnce(&App, &[u8]) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        if received.bytes.len() <= INLINE_BODY_BYTES {
            return work(self, &received.bytes);
        }
        // In turn: a large body is worth many times its size while it is read, and the threads
        // that read it would compete with those that compute.
        let turn = Arc::clone(&self.large_bodies).acquire_owned().await.expect("never closed");
        let app = Arc::clone(self);
        // The job owns turn and room, so that a client that leaves does not free them early.
        let job = move || {
            // Named as a whole: else the bytes alone would be moved here.
            let (_turn, received) = (turn, received);
            work(&app, &received.bytes)
        };
        let result = tokio::task::spawn_blocking(job).await;
        result.unwrap_or_else(|error| match error.try_into_panic() {
            // As if it had happened here.
            Ok(panic) => resume_unwind(panic),
            Err(error) => {
                tracing::error!(%error, "reading a request failed");
                Err(ApiError::Failed { message: "the request could not be read".to_owned() })
            }
        })
    }
}

fn check_media_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Err(ApiError::MediaType { found: "missing".to_owned() });
    };
    let media_type = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    if media_type.trim().eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(ApiError::MediaType { found: String::from_utf8_lossy(value.as_bytes()).into_owned() })
}

/// A response that keeps `room` until it is sent.
pub fn held(response: Response, room: OwnedSemaphorePermit) -> Response {
    if room.num_permits() == 0 {
        return response;
    }
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _held = &room;
            frame
        }))
    })
}
