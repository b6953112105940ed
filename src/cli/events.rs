//! Reads a stream of server-sent events (WHATWG HTML, section 9.2), as far as the API uses them.

use futures_util::{Stream, TryStreamExt as _};

use super::error::CliError;

/// One event may be as long as a run's JSON with all of its attempts; anything longer is no event of ours.
const EVENT_BYTES_MAX: usize = 16 << 20;

/// One event.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Event {
    /// Its name; `message` where none was given.
    pub name: String,
    /// Its data: the `data` lines, joined.
    pub data: String,
}

/// Puts events together from the lines of a stream.
#[derive(Debug, Default)]
pub struct EventReader {
    line: Vec<u8>,
    name: String,
    data: Option<String>,
    ready: std::collections::VecDeque<Event>,
}

impl EventReader {
    /// The next event; `None` at the end of the stream. Comments and retry hints are skipped.
    pub async fn next<B: AsRef<[u8]>>(
        &mut self,
        pieces: &mut (impl Stream<Item = Result<B, CliError>> + Unpin),
    ) -> Result<Option<Event>, CliError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            match pieces.try_next().await? {
                Some(piece) => self.feed(piece.as_ref())?,
                None => return Ok(None),
            }
        }
    }

    fn feed(&mut self, piece: &[u8]) -> Result<(), CliError> {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if self.line.len() + self.data.as_ref().map_or(0, String::len) > EVENT_BYTES_MAX {
                let why = format!("an event is longer than {EVENT_BYTES_MAX} bytes");
                return Err(CliError::Broken { doing: "following the run", why });
            }
            if part.ends_with(b"\n") {
                let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
                self.take_line(line.trim_end_matches(['\r', '\n']));
            }
        }
        Ok(())
    }

    fn take_line(&mut self, line: &str) {
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            if let Some(data) = self.data.take() {
                let name = if name.is_empty() { "message".to_owned() } else { name };
                self.ready.push_back(Event { name, data });
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.name = value.to_owned(),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // A comment (empty field) keeps the connection alive; `id` and `retry` are of no use to us.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(pieces: Vec<Vec<u8>>) -> Vec<(String, String)> {
        let mut stream = futures_util::stream::iter(pieces.into_iter().map(Ok));
        let mut reader = EventReader::default();
        let mut events = Vec::new();
        while let Some(event) = reader.next(&mut stream).await.unwrap() {
            events.push((event.name, event.data));
        }
        events
    }

    #[tokio::test]
    async fn events_are_whole_wherever_the_stream_is_cut() {
        let text = ": alive\n\nevent: run\ndata: {\"a\":\ndata: \"é\"}\n\ndata:x\r\n\r\nevent: end\n\nevent: cut\ndata: o";
        let expected =
            [("run".to_owned(), "{\"a\":\n\"é\"}".to_owned()), ("message".to_owned(), "x".to_owned())];
        for cut in 0..=text.len() {
            let (a, b) = text.as_bytes().split_at(cut);
            assert_eq!(read(vec![a.to_vec(), b.to_vec()]).await, expected, "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn an_endless_line_is_refused() {
        let mut stream = futures_util::stream::repeat_with(|| Ok(vec![b'x'; 1 << 20]));
        let error = EventReader::default().next(&mut stream).await.unwrap_err();
        assert!(error.to_string().contains("longer than"), "{error}");
    }
}
