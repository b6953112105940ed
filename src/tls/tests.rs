//! Certificates of all kinds, good and bad, through real handshakes.
