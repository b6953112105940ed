//! Cursor paging, the same for every list.

use std::fmt::Display;
use std::str::FromStr;

use serde::Deserialize;
use utoipa::IntoParams;

use super::problem::ApiError;
use crate::protocol::api::Page;

/// Items of a page, if the caller does not say.
pub const LIMIT_DEFAULT: u32 = 50;
/// The most items of a page.
pub const LIMIT_MAX: u32 = 200;

/// Parameters of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// `next` of the page before; the first page without it.
    cursor: Option<String>,
    /// Items of the page, 1 to 200; 50 by default.
    limit: Option<u32>,
}

impl ListParams {
    /// Where the page starts.
    pub fn cursor<T: FromStr<Err: Display>>(&self) -> Result<Option<T>, ApiError> {
        cursor(self.cursor.as_deref())
    }

    /// How long it may be.
    pub fn limit(&self) -> Result<u32, ApiError> {
        limit(self.limit)
    }
}

/// A cursor as the id behind it.
pub fn cursor<T: FromStr<Err: Display>>(text: Option<&str>) -> Result<Option<T>, ApiError> {
    let parse = |text: &str| {
        let refuse = |error| ApiError::parameter("cursor", format!("{error}: use `next` of the page before"));
        text.parse().map_err(refuse)
    };
    text.map(parse).transpose()
}

/// A limit within its bounds.
pub fn limit(limit: Option<u32>) -> Result<u32, ApiError> {
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    if (1..=LIMIT_MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(ApiError::parameter("limit", format!("{limit} is out of range: it must be from 1 to {LIMIT_MAX}")))
}

/// A page of `limit` items out of one more that was asked for: the surplus one tells that there is a next page.
pub fn page<T>(mut items: Vec<T>, limit: u32, id: impl Fn(&T) -> String) -> Page<T> {
    let limit = limit as usize;
    let more = items.len() > limit;
    items.truncate(limit);
    let next = if more { items.last().map(id) } else { None };
    Page { items, next }
}

/// The page with other items.
pub fn map<T, U>(page: Page<T>, view: impl Fn(T) -> U) -> Page<U> {
    Page { items: page.items.into_iter().map(view).collect(), next: page.next }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::WorkerId;

    #[test]
    fn a_page_names_the_next_one_only_if_there_is_more() {
        let id = |item: &i32| item.to_string();
        assert_eq!(page(vec![3, 2, 1], 2, id), Page { items: vec![3, 2], next: Some("2".into()) });
        assert_eq!(page(vec![3, 2], 2, id), Page { items: vec![3, 2], next: None });
        assert_eq!(page(vec![], 2, id), Page { items: vec![], next: None });
    }

    #[test]
    fn limits_and_cursors_are_checked() {
        assert_eq!(limit(None).unwrap(), LIMIT_DEFAULT);
        assert_eq!(limit(Some(LIMIT_MAX)).unwrap(), LIMIT_MAX);
        assert!(limit(Some(0)).is_err() && limit(Some(LIMIT_MAX + 1)).is_err());
        assert_eq!(cursor::<WorkerId>(Some("w3")).unwrap(), Some(WorkerId(3)));
        assert_eq!(cursor::<WorkerId>(None).unwrap(), None);
        assert!(cursor::<WorkerId>(Some("3")).is_err());
    }
}
