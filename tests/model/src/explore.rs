//! A breadth-first search through the states of a run.
//!
//! A checker of our own, because the check needs what a library of single runs does not give: the
//! edges, for the search back from every led state, and the losses of two families of runs, to
//! compare them.

use std::hash::{BuildHasherDefault, Hash, Hasher};

/// A fast hash for small keys that no attacker chooses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fast(u64);

/// Builds [`Fast`].
pub type Hashing = BuildHasherDefault<Fast>;

impl Hasher for Fast {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let word = chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
            self.write_u64(word);
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value.cast_unsigned() as u64);
    }

    fn finish(&self) -> u64 {
        // The low bits choose the place in a table: mix the high ones in.
        self.0 ^ (self.0 >> 32)
    }
}

/// States by number, each stored once.
#[derive(Debug)]
pub struct Numbered<S> {
    states: Vec<S>,
    /// Numbers of states, plus one, by hash. Zero is a free place.
    places: Vec<u32>,
}

impl<S: Copy + Eq + Hash> Numbered<S> {
    /// Returns an empty store.
    pub fn new() -> Self {
        Self { states: Vec::new(), places: vec![0; 1 << 10] }
    }

    /// Returns the number of `state`, and whether it is new.
    pub fn number(&mut self, state: S) -> (u32, bool) {
        if self.states.len() * 2 >= self.places.len() {
            self.grow();
        }
        let mut place = self.first_place(&state);
        loop {
            match self.places[place] {
                0 => {
                    self.states.push(state);
                    let count = u32::try_from(self.states.len()).unwrap_or(u32::MAX);
                    self.places[place] = count;
                    return (count - 1, true);
                }
                known if self.states[known as usize - 1] == state => return (known - 1, false),
                _ => place = (place + 1) & (self.places.len() - 1),
            }
        }
    }

    /// Returns the state with this number.
    pub fn get(&self, number: u32) -> S {
        self.states[number as usize]
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// Returns all states.
    pub fn iter(&self) -> impl Iterator<Item = &S> {
        self.states.iter()
    }

    fn first_place(&self, state: &S) -> usize {
        let mut hasher = Fast::default();
        state.hash(&mut hasher);
        usize::try_from(hasher.finish() & (self.places.len() as u64 - 1)).unwrap_or(0)
    }

    fn grow(&mut self) {
        self.places = vec![0; self.places.len() * 2];
        for number in 0..self.states.len() {
            let mut place = self.first_place(&self.states[number]);
            while self.places[place] != 0 {
                place = (place + 1) & (self.places.len() - 1);
            }
            self.places[place] = u32::try_from(number + 1).unwrap_or(u32::MAX);
        }
    }
}

impl<S: Copy + Eq + Hash> Default for Numbered<S> {
    fn default() -> Self {
        Self::new()
    }
}

/// What a search has found.
#[derive(Debug)]
pub struct Explored<S> {
    /// Every state that was reached, in the order of its distance.
    pub states: Numbered<S>,
    /// The number of the state before each. A first state is its own.
    parents: Vec<u32>,
    /// Every step, as the numbers of the states before and after it.
    pub edges: Vec<(u32, u32)>,
    /// How many steps were taken.
    pub steps: u64,
}

impl<S: Copy + Eq + Hash> Explored<S> {
    /// Returns a shortest way to a state, from a first one.
    pub fn way_to(&self, number: u32) -> Vec<S> {
        let mut way = vec![self.states.get(number)];
        let mut at = number;
        while self.parents[at as usize] != at {
            at = self.parents[at as usize];
            way.push(self.states.get(at));
        }
        way.reverse();
        way
    }
}

/// Visits every state that can be reached from `first`. `visit` gets a number with its state, and
/// returns the states after it. The edges are kept where `keep_edges` asks for them.
pub fn explore<S: Copy + Eq + Hash>(
    first: impl IntoIterator<Item = S>,
    keep_edges: bool,
    mut visit: impl FnMut(u32, &S) -> Vec<S>,
) -> Explored<S> {
    let (states, parents, edges) = (Numbered::new(), Vec::new(), Vec::new());
    let mut explored = Explored { states, parents, edges, steps: 0 };
    for state in first {
        let (number, new) = explored.states.number(state);
        if new {
            explored.parents.push(number);
        }
    }
    let mut at = 0;
    while (at as usize) < explored.states.len() {
        let state = explored.states.get(at);
        for next in visit(at, &state) {
            explored.steps += 1;
            let (number, new) = explored.states.number(next);
            if new {
                explored.parents.push(at);
            }
            if keep_edges {
                explored.edges.push((at, number));
            }
        }
        at += 1;
    }
    explored
}

/// Returns, for each of `count` nodes, whether an edge leads from it to a goal, over any number of
/// nodes.
pub fn can_reach(
    count: usize,
    edges: &[(u32, u32)],
    goals: impl IntoIterator<Item = u32>,
) -> Vec<bool> {
    // The edges by their end: first how many, then where each group begins.
    let mut begins = vec![0_u32; count + 1];
    for (_, to) in edges {
        begins[*to as usize + 1] += 1;
    }
    for index in 0..count {
        begins[index + 1] += begins[index];
    }
    let mut fill = begins.clone();
    let mut sources = vec![0_u32; edges.len()];
    for (from, to) in edges {
        let place = &mut fill[*to as usize];
        sources[*place as usize] = *from;
        *place += 1;
    }
    let mut reached = vec![false; count];
    let mut open: Vec<u32> = goals.into_iter().collect();
    for goal in &open {
        reached[*goal as usize] = true;
    }
    while let Some(at) = open.pop() {
        let group = begins[at as usize] as usize..begins[at as usize + 1] as usize;
        for source in &sources[group] {
            if !std::mem::replace(&mut reached[*source as usize], true) {
                open.push(*source);
            }
        }
    }
    reached
}
