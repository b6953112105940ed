//! Callbacks: what is asked for, what is sent, and how that went.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Page, Run, Timestamp};

/// Who is told when the run is final.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CallbackRequest {
    /// An `https` URL of up to 2048 bytes, without user, password and fragment. Addresses that are not of the public
    /// internet, and plain `http`, need the operator's word (`lockstep serve --callback-allow`).
    pub url: String,
}

/// What is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub enum CallbackEventName {
    /// The run became final: revision 1.
    #[serde(rename = "run.final")]
    Final,
    /// Its final turned out wrong and was replaced by the next revision.
    #[serde(rename = "run.corrected")]
    Corrected,
}

impl CallbackEventName {
    /// The name that JSON uses.
    pub fn name(self) -> &'static str {
        match self {
            CallbackEventName::Final => "run.final",
            CallbackEventName::Corrected => "run.corrected",
        }
    }
}

/// The body of a callback.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct CallbackEvent {
    /// What happened.
    #[serde(rename = "type")]
    pub kind: CallbackEventName,
    /// When it happened.
    pub timestamp: Timestamp,
    /// The run as `GET /v1/runs/{id}` shows it at the moment of the try: look at its `revision`. Outputs above 4 KiB are
    /// there by digest and size only.
    pub data: Run,
    /// Lists of the run that were emptied because the body would have passed 256 KiB.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omitted: Vec<String>,
}

/// Where a delivery stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStateName {
    /// It is tried until it succeeds or is given up.
    Pending,
    /// The receiver answered with a status of 200 to 299.
    Delivered,
    /// It was tried for 24 hours, or 50 times, or the receiver answered 410.
    GivenUp,
}

/// The delivery of one revision of a run to its callback.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct CallbackDelivery {
    /// What the header `webhook-id` says at every try: the run's id, `_` and the revision.
    pub id: String,
    /// What is told.
    pub event: CallbackEventName,
    /// Which revision became final.
    pub revision: u32,
    /// Where to.
    pub url: String,
    /// Where it stands.
    pub state: DeliveryStateName,
    /// Tries that have ended since it was made, or asked for again.
    pub tries: u32,
    /// When its revision became final.
    pub created_at: Timestamp,
    /// When the last try ended.
    #[schema(required)]
    pub last_at: Option<Timestamp>,
    /// The HTTP status that it was answered with; null if it was not.
    #[schema(required)]
    pub last_status: Option<u16>,
    /// Why it failed; null if it did not.
    #[schema(required)]
    pub last_error: Option<String>,
    /// When it is tried again; only while it is pending.
    #[schema(required)]
    pub next_at: Option<Timestamp>,
}

/// The deliveries of a run, on one page.
pub type DeliveryPage = Page<CallbackDelivery>;

/// What callbacks are signed with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct CallbackSecret {
    /// `whsec_` and base64 of 32 bytes.
    pub secret: String,
    /// Since when it signs.
    pub since: Timestamp,
    /// The one before, while it signs too.
    #[schema(required)]
    pub previous: Option<PreviousSecret>,
}

/// A secret that was replaced.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct PreviousSecret {
    /// `whsec_` and base64 of 32 bytes.
    pub secret: String,
    /// Until when it signs beside the new one.
    pub until: Timestamp,
}
