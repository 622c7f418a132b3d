//! `synchronous_standby_names` of PostgreSQL, where it is set by hand.
//!
//! While `synchronous_mode` is off, Patroni gives PostgreSQL the value of `postgresql.parameters`
//! (`disable_synchronous_replication`, patroni/ha.py; `synchronous_standby_names`,
//! patroni/postgresql/config.py). Grammar: `src/backend/replication/syncrep_gram.y` of PostgreSQL.

/// The standbys that every commit waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncNames {
    /// The number of standbys that must have a row before its commit is acknowledged.
    pub count: u64,
    /// The names that count, in lower case. `*` is any.
    pub names: Vec<String>,
}

impl SyncNames {
    /// Reads the value. `None` where commits wait for no standby, or PostgreSQL refuses the value.
    pub fn of(text: &str) -> Option<Self> {
        let text = text.trim();
        let (head, list) = match text.strip_suffix(')') {
            Some(rest) => {
                let (head, list) = rest.split_once('(')?;
                (head.trim(), list)
            }
            None => ("1", text),
        };
        let words: Vec<&str> = head.split_whitespace().collect();
        let count = match words.as_slice() {
            [count] => count,
            [method, count]
                if method.eq_ignore_ascii_case("any") || method.eq_ignore_ascii_case("first") =>
            {
                count
            }
            _ => return None,
        };
        let names = names(list)?;
        let count = count.parse().ok().filter(|count| *count > 0)?;
        Some(Self { count, names })
    }

    /// Returns whether a standby of this name counts.
    pub fn counts(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == "*" || known.eq_ignore_ascii_case(name))
    }
}

/// Returns the names of a list that is separated by commas. A name may stand in quotes, which are
/// doubled inside of it.
fn names(list: &str) -> Option<Vec<String>> {
    let (mut all, mut name, mut quoted) = (Vec::new(), String::new(), false);
    let mut rest = list.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '"' if quoted && rest.peek() == Some(&'"') => {
                rest.next();
                name.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => all.push(std::mem::take(&mut name)),
            space if !quoted && space.is_whitespace() => {}
            other => name.extend(other.to_lowercase()),
        }
    }
    all.push(name);
    (!quoted && all.iter().all(|name| !name.is_empty())).then_some(all)
}

/// Returns the name of the replication slot of a member (`slot_name_from_member_name`,
/// patroni/dcs/__init__.py): in lower case, with underscores. No member of the operator has another
/// character in its name.
pub fn slot_of(member: &str) -> String {
    member.to_ascii_lowercase().replace(['-', '.'], "_").chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_value_is_read() {
        let read = |text: &str| SyncNames::of(text).map(|it| (it.count, it.names.join(" ")));
        for (text, want) in [
            ("", None),
            ("*", Some((1, "*"))),
            ("acid_a, b", Some((1, "acid_a b"))),
            ("\"acid-a-2\"", Some((1, "acid-a-2"))),
            ("ANY 1 (*)", Some((1, "*"))),
            (
                "any 2(\"acid-a-1\",\"acid-a-2\", \"Acid-a-0\")",
                Some((2, "acid-a-1 acid-a-2 acid-a-0")),
            ),
            ("FIRST 2 (a, b)", Some((2, "a b"))),
            ("2 (a, b)", Some((2, "a b"))),
            ("1(\"a,b\", \"c\"\"d\")", Some((1, "a,b c\"d"))),
            ("ANY 0 (a)", None),
            ("ANY (a)", None),
            ("ANY 1 ()", None),
            ("ANY 1 (\"a)", None),
        ] {
            assert_eq!(read(text), want.map(|(count, names)| (count, names.to_owned())), "{text}");
        }
        assert!(SyncNames::of("\"ACID-A-2\"").unwrap().counts("acid-a-2"));
    }

    #[test]
    fn slot_is_named_after_its_member() {
        assert_eq!(slot_of("acid-A-2"), "acid_a_2");
    }
}
