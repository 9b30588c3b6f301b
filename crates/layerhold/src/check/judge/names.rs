//! Names, ids, and repositories, dead or alive.

use crate::format::keys::{self, Family, RegistryId, RepositoryId, Scope};
use crate::format::parsed::{IN_REPOSITORIES, Key, family};
use crate::format::values::{NextIdsRow, RepositoryRow, Row, UploadRow};
use crate::name::RepositoryName;
use crate::store::{Direction, StorageError, View};

use super::super::case::Verdict;
use super::super::finding::Fault;
use super::super::walk::{Slot, last, look};
use super::{Judge, rewritten, unreadable, unreadable_row};

impl Judge<'_> {
    pub(super) fn meta(&self, view: &dyn View, id: u8) -> Result<Vec<Verdict>, StorageError> {
        const NEXT_IDS: u8 = 3;
        const KNOWN: [(u8, &str); 3] = [(1, "identity"), (2, "clock"), (4, "download key")];
        let key = Key::Meta(id);
        let there = view.get(&key.encode())?.is_some();
        if let Some((_, row)) = KNOWN.into_iter().find(|(known, _)| *known == id && !there) {
            let why = "the store does not open without it";
            return Ok(vec![Verdict::leave(Fault::MetaRowMissing { row }, why)]);
        }
        if id != NEXT_IDS {
            return unreadable(view, &key);
        }
        let given = match look::<NextIdsRow>(view, &key.encode())? {
            Slot::There(row) => Some(row),
            Slot::Absent => Some(NextIdsRow::default()),
            Slot::Unreadable(_) => None,
        };
        let used = ids_in_use(view)?;
        let next = NextIdsRow {
            registry: RegistryId(used.registry.0.saturating_add(1)),
            repository: RepositoryId(used.repository.0.saturating_add(1)),
        };
        let how = "ids behind all that are in use are given next";
        Ok(match given {
            None => vec![rewritten(&key, "next-ids row: malformed row", &next.encode())],
            Some(given) if given.registry < next.registry || given.repository < next.repository => {
                let fault = Fault::IdsBehind { registry: given.registry.0, repository: given.repository.0 };
                let raised = NextIdsRow {
                    registry: given.registry.max(next.registry),
                    repository: given.repository.max(next.repository),
                };
                vec![Verdict::put(fault, how, &key.encode(), &raised.encode())]
            }
            Some(_) => Vec::new(),
        })
    }

    pub(super) fn repository_name(
        &self,
        view: &dyn View,
        registry: RegistryId,
        name: &RepositoryName,
    ) -> Result<Vec<Verdict>, StorageError> {
        let key = Key::RepositoryName(registry, name.clone());
        let Some(value) = view.get(&key.encode())? else { return Ok(Vec::new()) };
        let Ok(id) = <[u8; 8]>::try_from(value.as_slice()).map(u64::from_be_bytes) else {
            // Its repository, if there is one, writes it anew.
            return Ok(vec![unreadable_row(&key, "repository name row: malformed row")]);
        };
        let scope = Scope { registry, repository: RepositoryId(id) };
        Ok(match look::<RepositoryRow>(view, &keys::repository(scope))? {
            Slot::Absent => {
                let fault = Fault::NameWithoutRepository { registry: registry.0, repository: name.clone(), id };
                vec![Verdict::leave(fault, "nothing says what the settings of the repository were")]
            }
            Slot::There(row) if row.dead_since_ms.is_some() || row.name != *name => {
                let fault = Fault::NameExcess { registry: registry.0, repository: name.clone(), id };
                vec![Verdict::delete(fault, "the name is free again", &key.encode())]
            }
            Slot::There(_) | Slot::Unreadable(_) => Vec::new(),
        })
    }

    pub(super) fn repository(&self, view: &dyn View, scope: Scope) -> Result<Vec<Verdict>, StorageError> {
        let key = Key::Repository(scope);
        let dead_key = Key::DeadRepository(scope);
        let dead = view.get(&dead_key.encode())?;
        let excess = || {
            let fault = Fault::DeadRepositoryExcess { scope };
            Verdict::delete(fault, "taken from the list of the dead", &dead_key.encode())
        };
        let row = match look::<RepositoryRow>(view, &key.encode())? {
            Slot::There(row) => row,
            Slot::Absent => return Ok(dead.map(|_| excess()).into_iter().collect()),
            Slot::Unreadable(what) => return Ok(vec![unreadable_row(&key, &what)]),
        };
        let mut verdicts = Vec::new();
        match row.dead_since_ms {
            Some(at_ms) => {
                let listed = at_ms.to_be_bytes();
                let how = "put on the list of the dead";
                match dead {
                    None => {
                        let fault = Fault::DeadRepositoryUnlisted { scope };
                        verdicts.push(Verdict::put(fault, how, &dead_key.encode(), &listed));
                    }
                    Some(found) if found != listed => {
                        verdicts.push(rewritten(&dead_key, "dead repository row: another time", &listed));
                    }
                    Some(_) => {}
                }
                verdicts.push(Verdict::leave(Fault::DeadRepository { scope }, "its rows go by themselves, later"));
            }
            None => {
                verdicts.extend(dead.map(|_| excess()));
                verdicts.extend(name_of(view, scope, &row)?);
            }
        }
        Ok(verdicts)
    }
}

/// What is wrong with the name of a repository that is not dead.
fn name_of(view: &dyn View, scope: Scope, row: &RepositoryRow) -> Result<Option<Verdict>, StorageError> {
    let key = keys::repository_name(scope.registry, &row.name);
    let found = view.get(&key)?;
    let own = scope.repository.0.to_be_bytes();
    if found.as_deref() == Some(&own[..]) {
        return Ok(None);
    }
    let taken = match found.as_deref().map(<[u8; 8]>::try_from) {
        Some(Ok(id)) => {
            let other = Scope { repository: RepositoryId(u64::from_be_bytes(id)), ..scope };
            let other = look::<RepositoryRow>(view, &keys::repository(other))?.there();
            other.is_some_and(|other| other.dead_since_ms.is_none() && other.name == row.name)
        }
        _ => false,
    };
    let fault = Fault::RepositoryWithoutName { scope, repository: row.name.clone() };
    Ok(Some(if taken {
        Verdict::leave(fault, "another repository has the name")
    } else {
        Verdict::put(fault, "its row says its name", &key, &own)
    }))
}

/// Families whose keys begin with the id of a registry and not with one of a repository behind it.
const IN_REGISTRIES: [Family; 5] =
    [Family::RepositoryName, Family::Blob, Family::Suspect, Family::LinkBack, Family::BackReference];

/// The highest ids that any row has, whether or not there is a registry or a repository of that id.
fn ids_in_use(view: &dyn View) -> Result<NextIdsRow, StorageError> {
    let (mut registry, mut repository) = (0, 0);
    view.scan(&keys::registry_names(), Direction::Forward, &mut |_, value| {
        registry = registry.max(value.try_into().map_or(0, u32::from_be_bytes));
        std::ops::ControlFlow::Continue(())
    })?;
    view.scan(&family(Family::RepositoryName), Direction::Forward, &mut |_, value| {
        repository = repository.max(value.try_into().map_or(0, u64::from_be_bytes));
        std::ops::ControlFlow::Continue(())
    })?;
    view.scan(&family(Family::Upload), Direction::Forward, &mut |_, value| {
        if let Ok(row) = UploadRow::decode(value) {
            registry = registry.max(row.scope.registry.0);
            repository = repository.max(row.scope.repository.0);
        }
        std::ops::ControlFlow::Continue(())
    })?;
    for rows in IN_REGISTRIES {
        each_last(view, rows, &mut |_, id| registry = registry.max(id.0))?;
    }
    for rows in [Family::Repository, Family::DeadRepository].into_iter().chain(IN_REPOSITORIES) {
        each_last(view, rows, &mut |key, id| {
            registry = registry.max(id.0);
            repository = repository.max(keys::scope_of(key).map_or(0, |scope| scope.repository.0));
        })?;
    }
    Ok(NextIdsRow { registry: RegistryId(registry), repository: RepositoryId(repository) })
}

/// Calls `visit` with the last key of each registry in a family whose keys begin with its id, without reading the others. In a
/// family of repositories it is one of the repository with the highest id.
fn each_last(view: &dyn View, rows: Family, visit: &mut dyn FnMut(&[u8], RegistryId)) -> Result<(), StorageError> {
    let mut range = family(rows);
    while let Some((key, _)) = last(view, &range)? {
        range.end = match (Key::parse(&key), key.get(..5), key.get(1..5).and_then(|id| id.try_into().ok())) {
            (Some(_), Some(stem), Some(id)) => {
                visit(&key, RegistryId(u32::from_be_bytes(id)));
                stem.to_vec()
            }
            // None of ours: the one before it may be.
            _ => key,
        };
    }
    Ok(())
}
