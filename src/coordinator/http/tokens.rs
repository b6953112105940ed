//! `/v1/tokens`: who may call. All of it needs the scope `admin`; a secret is shown once, when it is made.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::extract::{Admin, JsonBody, Named};
use super::modules::words_fit;
use super::problem::ApiError;
use super::views;
use crate::coordinator::service::{Service, TokenSpec};
use crate::core::{OWN_DOMAIN, Time};
use crate::protocol::api::{NewToken, Page, ProblemCode, Scope, TokenPage, TokenRequest};

/// Length of a token's name.
const NAME_CHARS_MAX: usize = 100;
/// Length of a trust domain.
const DOMAIN_CHARS_MAX: usize = 64;

/// List tokens
///
/// Without their secrets, on one page.
#[utoipa::path(
    get, path = "/v1/tokens", tag = "tokens",
    responses((status = 200, description = "the tokens", body = TokenPage))
)]
pub async fn list_tokens(
    Admin(caller): Admin,
    State(service): State<Arc<Service>>,
) -> Result<Json<TokenPage>, ApiError> {
    let tokens = service.tokens(&caller).await?;
    Ok(Json(Page { items: tokens.iter().map(views::token).collect(), next: None }))
}

/// Make a token
///
/// The answer is the only place where its secret is ever shown.
#[utoipa::path(
    post, path = "/v1/tokens", tag = "tokens", request_body = TokenRequest,
    responses((status = 201, description = "the token with its secret", body = NewToken))
)]
pub async fn post_token(
    Admin(caller): Admin,
    State(service): State<Arc<Service>>,
    JsonBody(request): JsonBody<TokenRequest>,
) -> Result<(StatusCode, Json<NewToken>), ApiError> {
    let made = service.create_token(&caller, checked(request, jiff::Timestamp::now())?).await?;
    Ok((StatusCode::CREATED, Json(NewToken { secret: made.text, token: views::token(&made.row) })))
}

fn checked(request: TokenRequest, now: jiff::Timestamp) -> Result<TokenSpec, ApiError> {
    let refuse = |pointer: &str, why: String| Err(ApiError::new(ProblemCode::InvalidField, why).at(pointer));
    if !words_fit(&request.name, NAME_CHARS_MAX) {
        let why = format!("a name has 1 to {NAME_CHARS_MAX} characters and no control characters");
        return refuse("/name", why);
    }
    let mut scopes = request.scopes;
    scopes.sort_unstable();
    scopes.dedup();
    if scopes.is_empty() {
        return refuse(
            "/scopes",
            "a token has at least one of `admin`, `submit`, `read` and `worker`".to_owned(),
        );
    }
    if let Some(expires_at) = request.expires_at
        && expires_at.0 <= now
    {
        return refuse("/expires_at", format!("{expires_at} is past: give a time to come, or none"));
    }
    if let Some(domain) = &request.domain {
        if !is_domain(domain) {
            let why = format!(
                "a trust domain has 1 to {DOMAIN_CHARS_MAX} of the characters a-z, 0-9, `.`, `_`, `-`"
            );
            return refuse("/domain", why);
        }
        if !scopes.contains(&Scope::Worker) {
            return refuse("/domain", "only a token with the scope `worker` has a trust domain".to_owned());
        }
    }
    let claims = [("/owned", request.owned), ("/arbiter", request.arbiter), ("/foreign", request.foreign)];
    for (pointer, is_set) in claims {
        if is_set && !scopes.contains(&Scope::Worker) {
            return refuse(
                pointer,
                "only a token with the scope `worker` says anything of workers".to_owned(),
            );
        }
    }
    let says_whose = request.owned || request.arbiter || request.foreign || request.domain.is_some();
    if scopes.contains(&Scope::Worker) && !says_whose {
        let why = "say whose machines they are that enrol with this token: `owned` (true: your own), `foreign` (true: \
                   somebody else's) or `domain` (who answers for them)";
        return refuse("/owned", why.to_owned());
    }
    let is_local = request.domain.as_deref().is_none_or(|domain| domain == OWN_DOMAIN);
    if request.foreign && (request.owned || request.arbiter || (is_local && request.domain.is_some())) {
        let why =
            format!("the operator's own machines, arbiters and those of `{OWN_DOMAIN}` are not foreign");
        return refuse("/foreign", why);
    }
    // whoever decides for everybody is the operator's own in any case
    let arbiter = request.arbiter;
    let owned = scopes.contains(&Scope::Worker) && !request.foreign && (is_local || request.owned || arbiter);
    let domain = request.domain.or_else(|| owned.then(|| OWN_DOMAIN.to_owned()));
    let scopes = scopes.into_iter().map(|scope| scope.name().to_owned()).collect();
    let expires_at = request.expires_at.map(Time::from);
    Ok(TokenSpec { name: request.name, scopes, expires_at, domain, owned, arbiter })
}

/// Whether a text can name a trust domain: what people type into commands and labels.
fn is_domain(text: &str) -> bool {
    let fits = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    (1..=DOMAIN_CHARS_MAX).contains(&text.len()) && text.bytes().all(fits)
}

/// Delete a token
///
/// It stops working at once.
#[utoipa::path(
    delete, path = "/v1/tokens/{id}", tag = "tokens", params(("id" = u32, Path)),
    responses((status = 204, description = "it is gone"))
)]
pub async fn delete_token(
    Admin(caller): Admin,
    State(service): State<Arc<Service>>,
    Named(id): Named<u32>,
) -> Result<StatusCode, ApiError> {
    service.delete_token(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::api::Timestamp;

    #[test]
    fn a_token_has_a_name_a_scope_and_a_future() {
        let now: jiff::Timestamp = "2026-07-01T00:00:00Z".parse().unwrap();
        let later = Some(Timestamp("2026-07-02T00:00:00Z".parse().unwrap()));
        let request = |name: &str, scopes: &[Scope], expires_at| TokenRequest {
            name: name.to_owned(),
            scopes: scopes.to_vec(),
            expires_at,
            domain: None,
            owned: false,
            arbiter: false,
            foreign: false,
        };
        let twice = request("ci", &[Scope::Read, Scope::Submit, Scope::Read], later);
        let expected = TokenSpec {
            name: "ci".to_owned(),
            scopes: vec!["submit".into(), "read".into()],
            expires_at: later.map(Time::from),
            domain: None,
            owned: false,
            arbiter: false,
        };
        assert_eq!(checked(twice, now).unwrap(), expected);
        let arbiter = TokenRequest { arbiter: true, ..request("lab", &[Scope::Worker], None) };
        let arbiter = checked(arbiter, now).unwrap();
        assert!(arbiter.arbiter && arbiter.owned, "a trusted executor is the operator's own");
        let reader = TokenRequest { owned: true, ..request("lab", &[Scope::Read], None) };
        assert!(checked(reader, now).is_err());
        let own = TokenRequest { owned: true, ..request("shed", &[Scope::Worker], None) };
        let own = checked(own, now).unwrap();
        assert_eq!((own.domain.as_deref(), own.owned), (Some("local"), true), "they are in no other domain");
        let strange = TokenRequest { foreign: true, ..request("someone", &[Scope::Worker], None) };
        let strange = checked(strange, now).unwrap();
        assert_eq!((strange.domain, strange.owned), (None, false));
        let contradictions = [
            TokenRequest { foreign: true, owned: true, ..request("x", &[Scope::Worker], None) },
            TokenRequest { foreign: true, arbiter: true, ..request("x", &[Scope::Worker], None) },
            TokenRequest { foreign: true, ..request("x", &[Scope::Read], None) },
            TokenRequest {
                foreign: true,
                domain: Some("local".to_owned()),
                ..request("x", &[Scope::Worker], None)
            },
        ];
        for wrong in contradictions {
            assert_eq!(checked(wrong, now).unwrap_err().code(), ProblemCode::InvalidField);
        }
        let rack = TokenRequest {
            owned: true,
            domain: Some("rack-2".to_owned()),
            ..request("rack", &[Scope::Worker], None)
        };
        assert!(checked(rack, now).unwrap().owned, "the operator's own, with a domain of their own");
        let with_domain = |scopes: &[Scope], domain: &str| TokenRequest {
            domain: Some(domain.to_owned()),
            ..request("lab", scopes, None)
        };
        for domain in ["a", "rack-2", "ada.laptop_1", &"x".repeat(64)] {
            let spec = checked(with_domain(&[Scope::Worker], domain), now).unwrap();
            assert_eq!((spec.domain.as_deref(), spec.owned), (Some(domain), false));
        }
        for wrong in [
            request("", &[Scope::Read], None),
            request(&"x".repeat(101), &[Scope::Read], None),
            request("a\u{1b}[31m", &[Scope::Read], None),
            request("ci", &[], None),
            // the most trust is not what comes of saying nothing
            request("shed", &[Scope::Worker], None),
            request("all", &[Scope::Admin, Scope::Worker], None),
            request("ci", &[Scope::Read], Some(Timestamp(now))),
            with_domain(&[Scope::Worker], ""),
            with_domain(&[Scope::Worker], "Rack"),
            with_domain(&[Scope::Worker], "a b"),
            with_domain(&[Scope::Worker], &"x".repeat(65)),
            with_domain(&[Scope::Admin], "rack-2"),
        ] {
            assert_eq!(checked(wrong, now).unwrap_err().code(), ProblemCode::InvalidField);
        }
    }
}
