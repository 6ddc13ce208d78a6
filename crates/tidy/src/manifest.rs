//! The dependencies that a `Cargo.toml` names.

/// One dependency of a crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// The name that code uses.
    pub name: String,
    /// Line in the manifest, counted from 1.
    pub line: usize,
    /// Whether only tests, examples and benchmarks have it.
    pub is_dev: bool,
    /// Whether its version comes from the workspace.
    pub is_workspace: bool,
}

/// Reads the dependencies of all kinds and for all targets.
///
/// Understands what is used here: one dependency a line in a `[… dependencies]` section, or a
/// section of its own.
pub fn dependencies(manifest: &str) -> Vec<Dependency> {
    let mut found: Vec<Dependency> = Vec::new();
    let mut section = String::new();
    for (index, raw) in manifest.lines().enumerate() {
        let line = raw.split('#').next().unwrap_or_default().trim();
        let dependency = |name: &str, is_workspace| Dependency {
            name: name.trim().trim_matches('"').to_owned(),
            line: index + 1,
            is_dev: section_kind(&section) == Some(true),
            is_workspace,
        };
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']').to_owned();
            if let Some((kind, name)) = section.clone().rsplit_once('.')
                && section_kind(kind).is_some()
            {
                section = kind.to_owned();
                let is_dev = section_kind(kind) == Some(true);
                found.push(Dependency { is_dev, ..dependency_of_section(name, index + 1) });
                section.push_str(".one");
            }
        } else if let Some((key, value)) = line.split_once('=') {
            if section_kind(&section).is_some() {
                let (name, from_key) =
                    key.trim().strip_suffix(".workspace").map_or((key, false), |name| (name, true));
                let is_workspace = from_key || value.replace(' ', "").contains("workspace=true");
                found.push(dependency(name, is_workspace));
            } else if section.ends_with(".one") && key.trim() == "workspace" {
                found.last_mut().expect("its section came first").is_workspace = true;
            }
        }
    }
    found
}

fn dependency_of_section(name: &str, line: usize) -> Dependency {
    let name = name.trim_matches('"').to_owned();
    Dependency { name, line, is_dev: false, is_workspace: false }
}

/// Whether a section lists dependencies, and if so whether they are for tests only.
fn section_kind(section: &str) -> Option<bool> {
    match section.rsplit('.').next() {
        Some("dependencies" | "build-dependencies") => {
            (!section.starts_with("workspace")).then_some(false)
        }
        Some("dev-dependencies") => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_dependency_is_seen() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\na.workspace = true # why\n\
                        b = { workspace = true, features = [] }\nc = \"1\"\n\
                        [target.'cfg(unix)'.dependencies]\nd = \"1\"\n\
                        [dependencies.e]\nworkspace = true\n[build-dependencies]\nf = \"1\"\n\
                        [dev-dependencies]\ng.workspace = true\n[features]\nh = []\n";
        let found: Vec<String> = dependencies(manifest)
            .iter()
            .map(|d| format!("{}:{}:{}:{}", d.name, d.line, d.is_dev, d.is_workspace))
            .collect();
        assert_eq!(
            found,
            [
                "a:4:false:true",
                "b:5:false:true",
                "c:6:false:false",
                "d:8:false:false",
                "e:9:false:true",
                "f:12:false:false",
                "g:14:true:true"
            ]
        );
    }
}
