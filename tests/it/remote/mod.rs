//! Workers on other machines, as far as one machine can show them: processes of their own, a network that can be cut, and
//! opponents.

mod drain;
mod hostile;
mod joining;
mod liars;
mod namespaces;
mod netns;
mod network;

use crate::support::proxy;
use crate::support::remote::*;
