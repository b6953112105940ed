//! Event streams: of one run, and of what changes in the pool. Bounded in number, each bounded in what it holds back.
//!
//! What a slow reader costs: nobody waits for it. The pool's events are in one ring that all readers share, a run's in one
//! ring per watched run; a reader that falls behind by a whole ring has lost events and is told so. Beyond that
//! a stream holds what its connection has not taken yet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{Stream, StreamExt as _, stream};
use tokio_stream::wrappers::BroadcastStream;

use super::{Caller, PoolEvent, RunEvent, Service, ServiceError};
use crate::coordinator::owner::Command;
use crate::id::RunId;

/// Event streams at once.
pub const STREAMS_MAX: usize = 1_024;
/// Event streams of one token at once, so that one leaking client cannot take them all.
const STREAMS_PER_TOKEN_MAX: usize = 256;

/// The event streams that are open, by token.
#[derive(Clone, Default)]
pub struct Streams {
    by_token: Arc<Mutex<HashMap<u32, usize>>>,
}

/// A place among the open streams; given back when it is dropped.
struct Place {
    streams: Streams,
    token: u32,
}

impl Streams {
    fn enter(&self, token: u32) -> Result<Place, ServiceError> {
        let mut by_token = self.lock();
        let all: usize = by_token.values().sum();
        let own = by_token.get(&token).copied().unwrap_or(0);
        if all >= STREAMS_MAX || own >= STREAMS_PER_TOKEN_MAX {
            return Err(ServiceError::TooManyStreams { open: if all >= STREAMS_MAX { all } else { own } });
        }
        by_token.insert(token, own + 1);
        Ok(Place { streams: self.clone(), token })
    }

    /// A panic while it was held cannot have left a count half-changed.
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, usize>> {
        self.by_token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_token = self.streams.lock();
        if let Some(open) = by_token.get_mut(&self.token) {
            *open -= 1;
            if *open == 0 {
                by_token.remove(&self.token);
            }
        }
    }
}

impl Service {
    /// Ids of what changes, for lists that are kept up to date.
    pub fn watch_all(
        &self,
        caller: &Caller,
    ) -> Result<impl Stream<Item = PoolEvent> + Send + use<>, ServiceError> {
        let place = self.parts.streams.enter(caller.token)?;
        let workspace = caller.workspace;
        let stopping = self.parts.stopping.clone();
        let events = BroadcastStream::new(self.parts.events.subscribe()).filter_map(move |event| {
            let _held = &place;
            std::future::ready(match event {
                Ok((Some(other), _)) if other != workspace => None,
                Ok((_, event)) => Some(event),
                Err(_) => Some(PoolEvent::Lagged),
            })
        });
        Ok(events.take_until(stopping.cancelled_owned()))
    }

    /// Changes and live output of one run; the last event is its final. With `corrections` it goes on, and says when that
    /// was wrong.
    pub async fn watch_run(
        &self,
        caller: &Caller,
        id: RunId,
        corrections: bool,
    ) -> Result<impl Stream<Item = RunEvent> + Send + use<>, ServiceError> {
        let place = self.parts.streams.enter(caller.token)?;
        // listened to from the beginning, so that none is missed between the final and what follows
        let corrected = corrections.then(|| self.corrections(caller, id));
        let until_final = self.until_final(caller, id).await?;
        let all = until_final.chain(stream::iter(corrected).flatten());
        Ok(all
            .map(move |event| {
                let _held = &place;
                event
            })
            .boxed())
    }

    /// Every correction of a run from now on. A reader that is too slow to hear of all is shown the run as it is.
    fn corrections(&self, caller: &Caller, id: RunId) -> impl Stream<Item = RunEvent> + Send + use<> {
        let (service, caller) = (self.clone(), caller.clone());
        let events = BroadcastStream::new(self.parts.events.subscribe());
        let corrected = events.filter_map(move |event| {
            let is_it = match event {
                Ok((_, PoolEvent::Corrected(run, _))) => run == id,
                Ok(_) => false,
                Err(_) => true,
            };
            let (service, caller) = (service.clone(), caller.clone());
            async move {
                let detail = if is_it { service.run(&caller, id).await.ok() } else { None };
                detail.filter(|detail| detail.run.revision > 1).map(RunEvent::Corrected)
            }
        });
        corrected.take_until(self.parts.stopping.clone().cancelled_owned())
    }

    async fn until_final(
        &self,
        caller: &Caller,
        id: RunId,
    ) -> Result<stream::BoxStream<'static, RunEvent>, ServiceError> {
        let watch = self.ask(|reply| Command::Watch(caller.workspace, id, reply)).await?;
        let Some(watch) = watch else {
            let last = self.run(caller, id).await?;
            return Ok(stream::iter([RunEvent::Changed(last)]).boxed());
        };
        let service = self.clone();
        let caller = caller.clone();
        let next = BroadcastStream::new(watch.next).filter_map(move |event| {
            let (service, caller) = (service.clone(), caller.clone());
            async move {
                match event {
                    Ok(event) => Some(event),
                    // what was missed is made good by the present view; live output has a gap, as its offsets tell
                    Err(_) => service.run(&caller, id).await.ok().map(RunEvent::Changed),
                }
            }
        });
        let all = stream::iter(watch.now).chain(next);
        Ok(all.take_until(self.parts.stopping.clone().cancelled_owned()).boxed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_bounded_per_token_and_in_all_and_places_are_given_back() {
        let streams = Streams::default();
        let mut places: Vec<_> = (0..STREAMS_PER_TOKEN_MAX)
            .map(|_| streams.enter(1).map_err(drop).expect("there is room"))
            .collect();
        assert!(matches!(
            streams.enter(1),
            Err(ServiceError::TooManyStreams { open: STREAMS_PER_TOKEN_MAX })
        ));
        places.pop();
        places.push(streams.enter(1).map_err(drop).expect("there is room again"));
        let mut token = 1;
        while places.len() < STREAMS_MAX {
            token += 1;
            places.extend((0..STREAMS_PER_TOKEN_MAX).map_while(|_| streams.enter(token).ok()));
        }
        assert!(matches!(streams.enter(99), Err(ServiceError::TooManyStreams { open: STREAMS_MAX })));
        places.clear();
        assert!(streams.lock().is_empty());
    }
}
