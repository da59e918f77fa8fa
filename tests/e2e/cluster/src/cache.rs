//! Built programs, kept outside the tree by what they were built from.
//!
//! May touch: `$XDG_CACHE_HOME/konductor/cluster` (or `~/.cache/…`). What must stay true: a folder under its final
//! name is complete (built elsewhere, then renamed), two builds of the same thing do not collide (file lock, freed by
//! the kernel when its holder dies), and another source, flag or architecture is another folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::progress::Progress;
use crate::run;

/// A folder of programs that are built together.
pub(crate) struct Artefact {
    /// Short, for the folder's name.
    pub(crate) name: &'static str,
    /// For the person who waits.
    pub(crate) title: &'static str,
    /// Folder of the sources; steps run in it and every file of it counts.
    pub(crate) source: PathBuf,
    /// What is run, in this order.
    pub(crate) steps: Vec<Step>,
    /// Further names for the only program: it is the part that it is called by.
    pub(crate) names: &'static [&'static str],
}

/// One program to build.
pub(crate) struct Step {
    /// Its file name.
    pub(crate) output: &'static str,
    /// What is run.
    pub(crate) compiler: &'static str,
    /// Its arguments before `-o FILE`.
    pub(crate) before: Vec<String>,
    /// And after it.
    pub(crate) after: Vec<String>,
    /// Environment on top of the caller's.
    pub(crate) environment: Vec<(&'static str, &'static str)>,
}

/// Where built programs are kept.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The user's cache folder.
    pub(crate) fn of_user() -> Result<Self> {
        let base = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
            .context("no place to keep what is built: set HOME or XDG_CACHE_HOME")?;
        Ok(Self { root: base.join("konductor/cluster") })
    }

    #[cfg(test)]
    pub(crate) fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where it is or will be.
    pub(crate) fn folder(&self, artefact: &Artefact) -> Result<PathBuf> {
        Ok(self.root.join(format!("{}-{}", artefact.name, artefact.key()?)))
    }

    /// Builds it if it is not there, and returns its folder.
    pub(crate) fn get(&self, artefact: &Artefact, progress: Progress) -> Result<PathBuf> {
        let folder = self.folder(artefact)?;
        if folder.is_dir() {
            return Ok(folder);
        }
        fs::create_dir_all(&self.root).with_context(|| format!("making {}", self.root.display()))?;
        let lock = self.root.join(format!("{}.lock", artefact.name));
        let lock = File::create(&lock).with_context(|| format!("making {}", lock.display()))?;
        if lock.try_lock().is_err() {
            progress
                .step(&format!("waiting for another build of {}", artefact.title), || Ok(lock.lock()?))?;
        }
        if folder.is_dir() {
            return Ok(folder);
        }
        progress.step(&format!("building {}", artefact.title), || self.build(artefact, &folder))?;
        Ok(folder)
    }

    fn build(&self, artefact: &Artefact, folder: &Path) -> Result<()> {
        self.remove_partial(artefact)?;
        // A name of its own: the compiler of a build that was killed may still be writing into its folder.
        let partial = self.root.join(format!("{}.partial-{}", artefact.name, std::process::id()));
        fs::create_dir(&partial).with_context(|| format!("making {}", partial.display()))?;
        for step in &artefact.steps {
            let file = partial.join(step.output);
            let mut command = Command::new(step.compiler);
            command.current_dir(&artefact.source).envs(step.environment.iter().copied());
            command.args(&step.before).arg("-o").arg(&file).args(&step.after);
            run::output(&mut command, &format!("build {}", step.output))?;
            ensure!(file.is_file(), "{} built nothing at {}", step.compiler, file.display());
        }
        if let Some(program) = artefact.steps.first() {
            for name in artefact.names {
                std::os::unix::fs::symlink(program.output, partial.join(name))
                    .with_context(|| format!("naming {name}"))?;
            }
        }
        fs::rename(&partial, folder).with_context(|| format!("making {}", folder.display()))
    }

    /// Under the lock, what lies there is what killed builds left.
    fn remove_partial(&self, artefact: &Artefact) -> Result<()> {
        let prefix = format!("{}.partial-", artefact.name);
        for entry in fs::read_dir(&self.root).with_context(|| format!("reading {}", self.root.display()))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                fs::remove_dir_all(entry.path())
                    .with_context(|| format!("removing {}", entry.path().display()))?;
            }
        }
        Ok(())
    }
}

impl Artefact {
    /// From everything that decides what comes out, apart from the compiler's version.
    fn key(&self) -> Result<String> {
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        };
        add(std::env::consts::ARCH.as_bytes());
        for (path, contents) in files_below(&self.source)? {
            add(path.as_bytes());
            add(&contents);
        }
        for step in &self.steps {
            let environment = step.environment.iter().flat_map(|(name, value)| [*name, *value]);
            let arguments = step.before.iter().chain(&step.after).map(String::as_str);
            for part in [step.output, step.compiler].into_iter().chain(environment).chain(arguments) {
                add(part.as_bytes());
            }
        }
        for name in self.names {
            add(name.as_bytes());
        }
        let digest = format!("{:x}", hash.finalize());
        Ok(digest.chars().take(16).collect())
    }
}

/// Every file below a folder, sorted, by its path from there.
fn files_below(folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).with_context(|| format!("reading {}", next.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let contents = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
                found.push((path.strip_prefix(folder)?.display().to_string(), contents));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("konductor-cache-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(path.join("source")).unwrap();
            fs::write(path.join("source/input"), "1").unwrap();
            Self(path)
        }

        /// A "compiler" that counts its runs beside the cache.
        fn artefact(&self, script: &str) -> Artefact {
            let script = format!("echo run >> {}/runs; {script}", self.0.display());
            Artefact {
                name: "thing",
                title: "a thing",
                source: self.0.join("source"),
                steps: vec![Step {
                    output: "program",
                    compiler: "sh",
                    before: vec!["-c".to_owned(), script, "sh".to_owned()],
                    after: vec![],
                    environment: vec![],
                }],
                names: &["other"],
            }
        }

        fn runs(&self) -> usize {
            fs::read_to_string(self.0.join("runs")).unwrap_or_default().lines().count()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const COPY: &str = r#"cp input "$2""#;

    #[test]
    fn what_is_there_is_not_built_again_until_a_source_changes() {
        let folder = Folder::new("again");
        let (cache, artefact) = (Cache::at(folder.0.join("cache")), folder.artefact(COPY));
        let first = cache.get(&artefact, Progress::Silent).unwrap();
        assert_eq!(cache.get(&artefact, Progress::Silent).unwrap(), first);
        assert_eq!(folder.runs(), 1);
        assert_eq!(fs::read_to_string(first.join("other")).unwrap(), "1");
        fs::write(folder.0.join("source/input"), "2").unwrap();
        let second = cache.get(&artefact, Progress::Silent).unwrap();
        assert_ne!(first, second);
        assert_eq!(fs::read_to_string(second.join("program")).unwrap(), "2");
    }

    #[test]
    fn a_build_that_fails_or_is_killed_leaves_nothing_under_the_final_name() {
        let folder = Folder::new("fails");
        let cache = Cache::at(folder.0.join("cache"));
        let broken = folder.artefact(r#"cp input "$2"; echo no room >&2; exit 1"#);
        let error = cache.get(&broken, Progress::Silent).unwrap_err().to_string();
        assert!(error.contains("could not build program") && error.ends_with("no room"), "{error}");
        assert!(!cache.folder(&broken).unwrap().exists());
        // What it left is in nobody's way.
        cache.get(&folder.artefact(COPY), Progress::Silent).unwrap();
    }

    #[test]
    fn two_at_once_build_it_once() {
        let folder = Folder::new("twice");
        let cache = Cache::at(folder.0.join("cache"));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| cache.get(&folder.artefact(COPY), Progress::Silent).unwrap());
            }
        });
        assert_eq!(folder.runs(), 1);
    }

    #[test]
    fn a_flag_is_part_of_the_key_and_so_is_where_one_ends() {
        let folder = Folder::new("flags");
        let key = |before: &[&str]| {
            let mut artefact = folder.artefact(COPY);
            artefact.steps[0].before = before.iter().map(|&part| part.to_owned()).collect();
            artefact.key().unwrap()
        };
        assert_ne!(key(&["-a", "-b"]), key(&["-a", "-c"]));
        assert_ne!(key(&["-ab", "c"]), key(&["-a", "bc"]));
    }
}
