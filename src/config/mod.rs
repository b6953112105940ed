//! What an operator can set: file < environment < flag → [`ServeConfig`], validated.
//!
//! Each setting has one name everywhere: `runs_max` in the file, `LOCKSTEP_RUNS_MAX` in the environment, `--set
//! runs_max=…` (and for the common ones a flag of their own). An unknown name is refused, with one exception: Kubernetes
//! injects variables such as `LOCKSTEP_SERVICE_HOST` beside a Service of our name, so an unknown *variable* is only
//! reported.
//!
//! This is the only reader of the environment; everything else gets an [`Environment`] or a value.

mod settings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use self::settings::Settings;
pub use self::settings::{CompilerConfig, LimitsConfig, RetentionConfig, ServeConfig, WorkersConfig};

/// Variables with this prefix are ours.
const PREFIX: &str = "LOCKSTEP_";
/// Ours, but no setting of `serve`.
const NOT_SETTINGS: [&str; 9] = [
    "LOCKSTEP_SERVER",
    "LOCKSTEP_TOKEN",
    "LOCKSTEP_CA",
    "LOCKSTEP_CONFIG",
    "LOCKSTEP_LOG",
    "LOCKSTEP_COORDINATOR",
    "LOCKSTEP_NAME",
    "LOCKSTEP_MEMORY",
    "LOCKSTEP_LABELS",
];
/// Where `serve` keeps everything and where clients on the same machine look, below the user's data directory.
const DATA_DIR: &str = "lockstep";

/// The variables of a process, as far as Lockstep cares.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Reads this process's environment.
    pub fn of_process() -> Environment {
        let ours =
            |name: &str| name.starts_with(PREFIX) || matches!(name, "HOME" | "XDG_DATA_HOME" | "NO_COLOR");
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Environment(std::env::vars_os().filter_map(text).filter(|(name, _)| ours(name)).collect())
    }

    /// An environment made by hand.
    pub fn of<const N: usize>(variables: [(&str, &str); N]) -> Environment {
        Environment(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }

    /// A variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// `$LOCKSTEP_DATA`, else `$XDG_DATA_HOME/lockstep`, else `~/.local/share/lockstep`, else `./lockstep-data`.
    pub fn data_dir(&self) -> PathBuf {
        self.get("LOCKSTEP_DATA").map_or_else(|| self.data_dir_of(DATA_DIR), PathBuf::from)
    }

    /// A directory of this name below the user's data directory, or below this one if there is none.
    pub fn data_dir_of(&self, name: &str) -> PathBuf {
        let below =
            |variable, inner: &str| self.get(variable).map(|base| Path::new(base).join(inner).join(name));
        below("XDG_DATA_HOME", "")
            .or_else(|| below("HOME", ".local/share"))
            .unwrap_or_else(|| PathBuf::from(format!("{name}-data")))
    }
}

/// What the defaults depend on.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Processors that this process may use.
    pub cores: u32,
    /// Memory that this process may use, in bytes.
    pub memory_bytes: u64,
}

impl Machine {
    /// Asks the kernel; what it does not say counts as one core and 2 GiB.
    pub fn of_process() -> Machine {
        let cores =
            std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
        let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
            let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
            kib.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib << 10)
        });
        // A container's own bound; the file holds `max` where there is none.
        let bound = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
        let bound = bound.and_then(|text| text.trim().parse::<u64>().ok());
        Machine { cores, memory_bytes: total.into_iter().chain(bound).min().unwrap_or(2 << 30) }
    }
}

/// Why the configuration is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not to be had.
    #[error("cannot read the configuration file `{}`", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("the configuration file `{}` is no TOML: {why}", path.display())]
    Syntax {
        /// Which.
        path: PathBuf,
        /// The parser's words, with the line.
        why: String,
    },
    /// A setting that does not exist, is of the wrong kind, or is out of its bounds.
    #[error("`{key}` ({origin}): {why}")]
    Setting {
        /// Its name.
        key: String,
        /// Where the value came from.
        origin: String,
        /// What is wrong with it.
        why: String,
    },
}

/// The layers of settings, merged; remembers for each value where it came from.
#[derive(Debug, Default)]
pub struct Layers {
    merged: Table,
    origins: BTreeMap<String, String>,
    /// Variables with our prefix that name no setting: worth a warning.
    pub unknown_variables: Vec<String>,
}

impl Layers {
    /// Starts with nothing but defaults.
    pub fn new() -> Layers {
        Layers::default()
    }

    /// Lays the file over what is there.
    pub fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let table = text
            .parse::<Table>()
            .map_err(|error| ConfigError::Syntax { path: path.to_owned(), why: error.to_string() })?;
        for (key, value) in table {
            self.put(&key, value, &format!("in {}", path.display()))?;
        }
        Ok(())
    }

    /// Lays the environment over what is there.
    pub fn environment(&mut self, environment: &Environment) -> Result<(), ConfigError> {
        for (name, text) in &environment.0 {
            let Some(key) = name.strip_prefix(PREFIX).map(str::to_ascii_lowercase) else { continue };
            if NOT_SETTINGS.contains(&name.as_str()) || text.is_empty() {
                continue;
            }
            match self.put_text(&key, text, &format!("from {name}")) {
                Err(_) if !is_setting(&key) => self.unknown_variables.push(name.clone()),
                other => other?,
            }
        }
        Ok(())
    }

    /// Lays one value given as text over what is there; `origin` says where it came from, for instance `from --listen`.
    pub fn put_text(&mut self, key: &str, text: &str, origin: &str) -> Result<(), ConfigError> {
        // Text has no kind: it is taken as a string where the setting takes one, else as the number or boolean it spells.
        let string = Value::String(text.to_owned());
        if check(key, &string).is_ok() {
            return self.put(key, string, origin);
        }
        let spelled = match text.parse::<i64>() {
            Ok(number) => Value::Integer(number),
            Err(_) => text.parse::<bool>().map_or(string, Value::Boolean),
        };
        self.put(key, spelled, origin)
    }

    fn put(&mut self, key: &str, value: Value, origin: &str) -> Result<(), ConfigError> {
        check(key, &value).map_err(|why| ConfigError::Setting {
            key: key.to_owned(),
            origin: origin.to_owned(),
            why,
        })?;
        self.merged.insert(key.to_owned(), value);
        self.origins.insert(key.to_owned(), origin.to_owned());
        Ok(())
    }

    /// Every setting with its value and where that came from, as the text of a configuration file.
    pub fn listing(&self) -> Result<String, ConfigError> {
        let settings = self.settings()?;
        let Ok(serde_json::Value::Object(settings)) = serde_json::to_value(settings) else {
            return Ok(String::new());
        };
        let line = |(key, value): (&String, &serde_json::Value)| match (value, self.origins.get(key)) {
            (serde_json::Value::Null, _) => format!("# {key}: chosen at the start, see --help\n"),
            (value, Some(origin)) => format!("{key} = {value}  # {origin}\n"),
            (value, None) => format!("{key} = {value}\n"),
        };
        Ok(settings.iter().map(line).collect())
    }

    fn settings(&self) -> Result<Settings, ConfigError> {
        self.merged.clone().try_into().map_err(|error: toml::de::Error| ConfigError::Setting {
            key: "settings".to_owned(),
            origin: "all layers together".to_owned(),
            why: error.message().to_owned(),
        })
    }

    /// The whole, with defaults filled in and every bound checked.
    pub fn finish(self, environment: &Environment, machine: Machine) -> Result<ServeConfig, ConfigError> {
        let refuse = |key: &str, why: String| ConfigError::Setting {
            key: key.to_owned(),
            origin: self.origins.get(key).map_or("the default", String::as_str).to_owned(),
            why,
        };
        let mut settings = self.settings()?;
        for (key, value, least, most) in settings.bounded() {
            if value < least || value > most {
                return Err(refuse(key, format!("{value} is out of bounds: it must be {least} to {most}")));
            }
        }
        match (&settings.tls_cert, &settings.tls_key) {
            (Some(_), None) => {
                return Err(refuse("tls_cert", "a certificate needs its key: give --tls-key too".to_owned()));
            }
            (None, Some(_)) => {
                return Err(refuse("tls_key", "a key needs its certificate: give --tls-cert too".to_owned()));
            }
            (None, None) if !settings.listen.ip().is_loopback() && !settings.allow_plaintext => {
                let why = format!(
                    "{} can be reached from other machines, and without TLS tokens and data would travel in the clear. \
                     Give a certificate with --tls-cert and --tls-key (`lockstep cert` makes one), or accept it with \
                     --allow-plaintext",
                    settings.listen
                );
                return Err(refuse("listen", why));
            }
            _ => {}
        }
        if settings.worker_lost.ms <= settings.heartbeat.ms {
            let why = format!("it must be longer than the heartbeat ({})", settings.heartbeat);
            return Err(refuse("worker_lost", why));
        }
        if !self.origins.contains_key("runs_per_workspace_max") {
            // Nobody asked for more than the pool takes.
            settings.runs_per_workspace_max = settings.runs_per_workspace_max.min(settings.runs_max);
        }
        if settings.runs_per_workspace_max > settings.runs_max {
            let why = format!("it cannot be more than runs_max ({})", settings.runs_max);
            return Err(refuse("runs_per_workspace_max", why));
        }
        Ok(settings.into_config(environment, machine))
    }
}

/// Whether `key` alone with `value` is a valid set of settings, as far as names and kinds go.
fn check(key: &str, value: &Value) -> Result<(), String> {
    let one = Table::from_iter([(key.to_owned(), value.clone())]);
    match one.try_into::<Settings>() {
        Ok(_) => Ok(()),
        Err(_) if !is_setting(key) => Err("there is no such setting".to_owned()),
        Err(error) => Err(error.message().to_owned()),
    }
}

/// Whether there is a setting of this name: an unknown one is refused whatever its value is.
fn is_setting(key: &str) -> bool {
    let unknown = |value: Value| {
        let one = Table::from_iter([(key.to_owned(), value)]);
        one.try_into::<Settings>().is_err_and(|error| error.message().starts_with("unknown field"))
    };
    !unknown(Value::Boolean(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core;

    const MACHINE: Machine = Machine { cores: 8, memory_bytes: 16 << 30 };

    fn config(layers: Layers) -> Result<ServeConfig, String> {
        layers.finish(&Environment::of([("HOME", "/home/ada")]), MACHINE).map_err(|error| error.to_string())
    }

    fn file_with(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn defaults_follow_the_machine_and_the_rules() {
        let config = config(Layers::new()).unwrap();
        assert_eq!(config.data, Path::new("/home/ada/.local/share/lockstep"));
        assert_eq!(config.listen.to_string(), "127.0.0.1:7070");
        assert_eq!((config.workers.count, config.workers.slots), (3, 2));
        assert_eq!(config.workers.memory_bytes, (16 << 30) / 10 * 8 / 3);
        assert_eq!(config.core.worker_lost_ms, core::Config::default().worker_lost_ms);
    }

    #[test]
    fn a_worker_of_a_small_machine_can_hold_a_run_with_default_limits() {
        let small = Machine { cores: 1, memory_bytes: 256 << 20 };
        let config = Layers::new().finish(&Environment::of([("HOME", "/home/ada")]), small).unwrap();
        // Leases are rounded up by less than an eighth.
        assert!(config.workers.memory_bytes >= crate::spec::Limits::default().held_bytes() / 8 * 9);
    }

    #[test]
    fn a_flag_beats_the_environment_and_that_beats_the_file() {
        let file = file_with("workers = 5\nslots = 5\nheartbeat = \"200ms\"\nmodule_max = 1048576\n");
        let mut layers = Layers::new();
        layers.file(file.path()).unwrap();
        let environment =
            Environment::of([("LOCKSTEP_WORKERS", "6"), ("LOCKSTEP_SLOTS", "6"), ("LOCKSTEP_DATA", "7")]);
        layers.environment(&environment).unwrap();
        layers.put_text("slots", "7", "from --slots").unwrap();
        let config = config(layers).unwrap();
        assert_eq!((config.workers.count, config.workers.slots), (6, 7));
        assert_eq!(config.workers.heartbeat_ms, 200);
        assert_eq!(config.limits.module_bytes_max, 1 << 20);
        assert_eq!(config.data, Path::new("7"), "a directory may look like a number");
    }

    #[test]
    fn an_unknown_setting_is_refused_but_an_unknown_variable_only_reported() {
        let file = file_with("worker = 5\n");
        let error = Layers::new().file(file.path()).unwrap_err().to_string();
        assert!(error.starts_with("`worker` (in ") && error.ends_with("there is no such setting"), "{error}");

        let mut layers = Layers::new();
        let environment = Environment::of([
            ("LOCKSTEP_SERVICE_HOST", "10.0.0.1"),
            ("LOCKSTEP_TOKEN", "x"),
            ("LOCKSTEP_WORKERS", "4"),
        ]);
        layers.environment(&environment).unwrap();
        assert_eq!(layers.unknown_variables, ["LOCKSTEP_SERVICE_HOST"]);
        assert_eq!(config(layers).unwrap().workers.count, 4);
    }

    #[test]
    fn an_error_names_the_setting_and_where_it_came_from() {
        let mut layers = Layers::new();
        let error = layers.put_text("heartbeat", "1", "from --set").unwrap_err().to_string();
        assert!(error.starts_with("`heartbeat` (from --set): "), "{error}");
        let environment = Environment::of([("LOCKSTEP_ALLOW_PLAINTEXT", "perhaps")]);
        let error = layers.environment(&environment).unwrap_err().to_string();
        assert!(error.starts_with("`allow_plaintext` (from LOCKSTEP_ALLOW_PLAINTEXT): "), "{error}");
        layers.put_text("workers", "257", "from --workers").unwrap();
        let error = config(layers).unwrap_err();
        assert_eq!(error, "`workers` (from --workers): 257 is out of bounds: it must be 0 to 256");
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        for (given, words) in [
            (&[("worker_lost", "1s")][..], "longer than the heartbeat"),
            (&[("runs_max", "10"), ("runs_per_workspace_max", "11")], "cannot be more than runs_max (10)"),
            (&[("tls_cert", "a.pem")], "give --tls-key too"),
            (&[("tls_key", "a.key")], "give --tls-cert too"),
        ] {
            let mut layers = Layers::new();
            for (key, value) in given {
                layers.put_text(key, value, "from --set").unwrap();
            }
            let error = config(layers).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_smaller_pool_bounds_its_workspaces_without_being_asked() {
        let mut layers = Layers::new();
        layers.put_text("runs_max", "10", "from --set").unwrap();
        assert_eq!(config(layers).unwrap().core.runs_per_workspace_max, 10);
    }

    #[test]
    fn listening_beyond_loopback_needs_a_word() {
        for (address, refused) in [("0.0.0.0:7070", true), ("[::]:7070", true), ("[::1]:0", false)] {
            let mut layers = Layers::new();
            layers.put_text("listen", address, "from --listen").unwrap();
            let words = ["--tls-cert and --tls-key (`lockstep cert` makes one)", "--allow-plaintext"];
            let is_refused =
                config(layers).is_err_and(|error| words.iter().all(|words| error.contains(words)));
            assert_eq!(is_refused, refused, "{address}");
            let mut layers = Layers::new();
            layers.put_text("listen", address, "from --listen").unwrap();
            layers.put_text("tls_cert", "a.pem", "from --tls-cert").unwrap();
            layers.put_text("tls_key", "a.key", "from --tls-key").unwrap();
            let tls = config(layers).unwrap().tls.unwrap();
            assert_eq!(tls, ("a.pem".into(), "a.key".into()));
            let mut layers = Layers::new();
            layers.put_text("listen", address, "from --listen").unwrap();
            layers.put_text("allow_plaintext", "true", "from --allow-plaintext").unwrap();
            assert!(config(layers).is_ok(), "{address}");
        }
    }

    #[test]
    fn the_listing_is_a_configuration_file_that_means_the_same() {
        let mut layers = Layers::new();
        layers.put_text("workers", "5", "from --workers").unwrap();
        layers.put_text("heartbeat", "250ms", "from --set").unwrap();
        let listing = layers.listing().unwrap();
        assert!(listing.contains("workers = 5  # from --workers\n"), "{listing}");
        assert!(listing.contains("heartbeat = \"250ms\"  # from --set\n"), "{listing}");
        let file = file_with(&listing);
        let mut again = Layers::new();
        again.file(file.path()).unwrap();
        assert_eq!(format!("{:?}", config(again)), format!("{:?}", config(layers)));
    }

    #[test]
    fn the_data_directory_is_found_in_the_order_that_is_promised() {
        let all = [("LOCKSTEP_DATA", "/l"), ("XDG_DATA_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(Environment::of(all).data_dir(), Path::new("/l"));
        assert_eq!(Environment::of([all[1], all[2]]).data_dir(), Path::new("/x/lockstep"));
        assert_eq!(Environment::of([all[2]]).data_dir(), Path::new("/h/.local/share/lockstep"));
        assert_eq!(Environment::of([]).data_dir(), Path::new("lockstep-data"));
    }
}
