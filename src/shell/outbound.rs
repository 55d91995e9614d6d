//! `fetch` behind [`Outbound`], with a time-out, which `fetch` itself does not have.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use worker::{AbortController, Delay, Headers, RequestInit, RequestRedirect};

use crate::ports::{NoAnswer, Outbound};

/// Calls to the outside.
pub struct Fetch;

impl Outbound for Fetch {
    async fn send(
        &self,
        request: http::Request<Vec<u8>>,
        timeout_ms: u32,
        max_bytes: usize,
    ) -> Result<http::Response<Vec<u8>>, NoAnswer> {
        let controller = AbortController::default();
        let signal = controller.signal();
        let call = std::pin::pin!(call(request, &signal, max_bytes));
        let late = std::pin::pin!(Delay::from(Duration::from_millis(timeout_ms.into())));
        match select(call, late).await {
            Either::Left((answer, _)) => answer.ok_or(NoAnswer::Unreachable),
            Either::Right(((), _)) => {
                controller.abort();
                Err(NoAnswer::TimedOut)
            }
        }
    }
}

/// One call; `None` for anything but a whole answer of bearable length.
async fn call(
    request: http::Request<Vec<u8>>,
    signal: &worker::AbortSignal,
    max_bytes: usize,
) -> Option<http::Response<Vec<u8>>> {
    let (parts, body) = request.into_parts();
    let headers = Headers::new();
    for (name, value) in &parts.headers {
        headers.set(name.as_str(), value.to_str().ok()?).ok()?;
    }
    let mut init = RequestInit::new();
    init.with_method(parts.method.as_str().to_owned().into())
        .with_headers(headers)
        .with_redirect(RequestRedirect::Manual);
    if !body.is_empty() {
        let bytes = worker::js_sys::Uint8Array::from(body.as_slice());
        init.with_body(Some(bytes.into()));
    }
    let request = worker::Request::new_with_init(&parts.uri.to_string(), &init).ok()?;
    let mut response = worker::Fetch::Request(request)
        .send_with_signal(signal)
        .await
        .ok()?;
    let mut answer = http::Response::builder().status(response.status_code());
    for (name, value) in response.headers().entries() {
        answer = answer.header(name, value);
    }
    let mut bytes = Vec::new();
    // An answer without a body has no stream.
    if let Ok(mut pieces) = response.stream() {
        while let Some(piece) = pieces.next().await {
            bytes.extend(piece.ok()?);
            if bytes.len() > max_bytes {
                return None;
            }
        }
    }
    answer.body(bytes).ok()
}
