//! What a client is told when it does not get an answer.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::guard::Refusal;
use crate::limits::{ERROR_MESSAGE_BYTES, ERROR_PARAM_BYTES, RETRY_AFTER_SECONDS};

/// Every way in which a request can be refused or fail.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// A field of the body has a value that cannot be served.
    #[error("{message}")]
    Invalid {
        /// The field, as a path such as `messages[0].content`; none where the body as a whole is bad.
        param: Option<String>,
        /// Value, limit and what to do.
        message: String,
    },
    /// Prompt and answer do not fit.
    #[error("{message}")]
    ContextLength {
        /// The field that is too long.
        param: &'static str,
        /// The figures.
        message: String,
    },
    /// What the request asks for leaves no token in the middle of its answer.
    #[error("{message}")]
    NoTokenLeft {
        /// The field that says which tokens there may be.
        param: Option<&'static str>,
        /// What leaves none.
        message: String,
    },
    /// `model` names something else.
    #[error("the model `{model}` does not exist here; this server serves `{served}`")]
    UnknownModel {
        /// What was asked for.
        model: String,
        /// What there is.
        served: String,
    },
    /// No such route.
    #[error("there is nothing at {path}")]
    UnknownPath {
        /// The path of the request.
        path: String,
    },
    /// The route exists, the method does not.
    #[error("{path} does not take {method}")]
    Method {
        /// The path of the request.
        path: String,
        /// The method of the request.
        method: String,
    },
    /// The body is not declared as JSON.
    #[error("content-type is {found}; send application/json")]
    MediaType {
        /// The header, or "missing".
        found: String,
    },
    /// The body is too large.
    #[error("the body is larger than {limit} bytes")]
    BodyTooLarge {
        /// Largest body.
        limit: usize,
    },
    /// The body did not arrive in time.
    #[error("the body did not arrive within {seconds} s")]
    BodyTimeout {
        /// The limit.
        seconds: u64,
    },
    /// No key, or the wrong one.
    #[error(
        "this server wants an API key: send the header `Authorization: Bearer KEY`, or `x-api-key: KEY`"
    )]
    Unauthorized,
    /// It goes to another host or comes from another site.
    #[error(transparent)]
    Forbidden(#[from] Refusal),
    /// The engine holds as many requests as it may.
    #[error(
        "{in_flight} requests are running or waiting, which is the limit ({limit}); try again later"
    )]
    QueueFull {
        /// Requests in the engine.
        in_flight: usize,
        /// Most requests in the engine.
        limit: usize,
    },
    /// The client has its share of the places already.
    #[error(
        "{in_flight} requests of this client are running or waiting, which is its share ({limit}); \
         try again later"
    )]
    ShareFull {
        /// Requests of the client in the engine.
        in_flight: u32,
        /// Its share at the moment.
        limit: u32,
    },
    /// The server takes no requests now.
    #[error("{reason}")]
    Unavailable {
        /// Why.
        reason: &'static str,
    },
    /// The request was taken and could not be finished.
    #[error("{message}")]
    Failed {
        /// What happened.
        message: String,
    },
}

/// The reason in [`ApiError::Unavailable`] during a drain.
pub const SHUTTING_DOWN: &str = "the server is shutting down";
/// The reason in [`ApiError::Unavailable`] after the engine ended.
pub const ENGINE_STOPPED: &str = "the engine has stopped; the server must be restarted";

impl ApiError {
    /// A bad value of `param`.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { param: Some(param.into()), message: message.into() }
    }

    /// The same, said of `param`: for checks that several fields share.
    pub fn about(self, param: &str) -> Self {
        match self {
            Self::Invalid { message, .. } => Self::invalid(param, message),
            other => other,
        }
    }

    /// Status of the reply.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Invalid { .. } | Self::ContextLength { .. } | Self::NoTokenLeft { .. } => {
                StatusCode::BAD_REQUEST
            }
            Self::UnknownModel { .. } | Self::UnknownPath { .. } => StatusCode::NOT_FOUND,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::MediaType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::QueueFull { .. } | Self::ShareFull { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Failed { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// OpenAI's `type` and `code`.
    fn kind_and_code(&self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Invalid { .. } => ("invalid_request_error", None),
            Self::ContextLength { .. } => {
                ("invalid_request_error", Some("context_length_exceeded"))
            }
            Self::NoTokenLeft { .. } => ("invalid_request_error", Some("no_token_left")),
            Self::UnknownModel { .. } => ("invalid_request_error", Some("model_not_found")),
            Self::UnknownPath { .. } => ("invalid_request_error", Some("unknown_url")),
            Self::Method { .. } => ("invalid_request_error", Some("method_not_allowed")),
            Self::MediaType { .. } => ("invalid_request_error", Some("unsupported_media_type")),
            Self::BodyTooLarge { .. } => ("invalid_request_error", Some("request_too_large")),
            Self::BodyTimeout { .. } => ("invalid_request_error", Some("request_timeout")),
            Self::Unauthorized => ("authentication_error", Some("invalid_api_key")),
            Self::Forbidden(Refusal::Host { .. }) => ("permission_error", Some("host_not_allowed")),
            Self::Forbidden(Refusal::Origin { .. }) => {
                ("permission_error", Some("origin_not_allowed"))
            }
            Self::QueueFull { .. } => ("rate_limit_error", Some("queue_full")),
            Self::ShareFull { .. } => ("rate_limit_error", Some("share_full")),
            Self::Unavailable { .. } => ("service_unavailable_error", Some("unavailable")),
            Self::Failed { .. } => ("server_error", None),
        }
    }

    /// The field that is bad.
    fn param(&self) -> Option<&str> {
        match self {
            Self::Invalid { param, .. } => param.as_deref(),
            Self::ContextLength { param, .. } => Some(*param),
            Self::NoTokenLeft { param, .. } => *param,
            Self::UnknownModel { .. } => Some("model"),
            _ => None,
        }
    }

    /// What is said, whatever the form. What it quotes of the client's is not told back without end.
    pub fn told(&self) -> Told {
        let param = self.param().map(|param| shortened(param, ERROR_PARAM_BYTES));
        Told { message: shortened(&self.to_string(), ERROR_MESSAGE_BYTES), param }
    }

    /// `{"error": …}` as bytes: the body of the reply, and the data of a stream's error event.
    pub fn body(&self) -> Bytes {
        let (kind, code) = self.kind_and_code();
        let Told { message, param } = self.told();
        let error = ErrorFields { message, kind, param, code };
        serde_json::to_vec(&ErrorBody { error }).expect("strings always serialise").into()
    }
}

/// What an error says, left in its reply for endpoints that say it in another form.
#[derive(Debug, Clone)]
pub struct Told {
    /// The message.
    pub message: String,
    /// The field that it is about.
    pub param: Option<String>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status(), self.body()).into_response();
        response.extensions_mut().insert(self.told());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self {
            Self::QueueFull { .. } | Self::ShareFull { .. } | Self::Unavailable { .. } => {
                headers.insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS.into());
            }
            Self::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            // The rest of the body is still on its way: this connection is of no more use.
            Self::BodyTooLarge { .. } | Self::BodyTimeout { .. } => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

#[derive(Serialize)]
struct ErrorBody {
    error: ErrorFields,
}

#[derive(Serialize)]
struct ErrorFields {
    message: String,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<String>,
    code: Option<&'static str>,
}

/// `text`, or its beginning and its end if it is longer than about `bytes`.
fn shortened(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let head = text.floor_char_boundary(bytes / 2);
    let tail = text.ceil_char_boundary(text.len() - bytes / 2);
    format!("{} … {}", &text[..head], &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_told_back_to_a_limit() {
        let told = |message: &str| ApiError::invalid("a".repeat(5000), message).told();
        assert_eq!(told("short").message, "short");
        let message = format!("bad `a`: {}, expected a number", "é".repeat(5000));
        let Told { message, param } = told(&message);
        assert!(message.len() <= ERROR_MESSAGE_BYTES + " … ".len(), "{message}");
        assert!(message.starts_with("bad `a`: é") && message.ends_with("é, expected a number"));
        assert!(param.expect("a field").len() <= ERROR_PARAM_BYTES + " … ".len());
    }
}
