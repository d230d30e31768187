//! One page of a tree: where its nodes lie, once that is known to be inside.

use super::{u16_at, u32_at, u64_at};

/// Bytes in front of each page, and of each node.
pub const HEADER: usize = 16;
pub const NODE: usize = 8;
pub const LEAST_SIZE: usize = 512;
pub const MOST_SIZE: usize = 1 << 15;
pub const LONGEST_KEY: usize = 511;
/// The number of no page.
pub const NOTHING: u64 = u64::MAX;

const BRANCH: u16 = 1;
const LEAF: u16 = 2;
pub const OVERFLOW: u16 = 4;
/// A node's value lies in pages of its own.
const BIG: u16 = 1;

/// What is wrong with a page.
pub type Fault = &'static str;

/// A page that was checked; nodes can be looked at without another check.
#[derive(Debug, Default)]
pub struct Page {
    pub bytes: Vec<u8>,
    pub is_leaf: bool,
    nodes: Vec<u16>,
    /// For the check alone; kept so that each page needs no memory of its own.
    spans: Vec<(u16, u16)>,
}

/// A record of a leaf.
pub enum Node<'p> {
    Inside(&'p [u8]),
    /// The first page of the value, and its bytes.
    Big(u64, u64),
}

impl Page {
    /// Look at the bytes as the page of that number; keys are of `key` bytes if that is not 0.
    pub fn check(&mut self, number: u64, key: usize) -> Result<(), Fault> {
        let size = self.bytes.len();
        let flags = u16_at(&self.bytes, 10);
        if u64_at(&self.bytes, 0) != number {
            return Err("the page has the number of another");
        }
        if flags != BRANCH && flags != LEAF {
            return Err("it is no page of a tree");
        }
        self.is_leaf = flags == LEAF;
        let (lower, upper) = (u16_at(&self.bytes, 12) as usize, u16_at(&self.bytes, 14) as usize);
        if lower < HEADER + 2 || lower % 2 != 0 || lower > upper || upper > size {
            return Err("the bounds of its free space cannot be");
        }
        self.nodes.clear();
        self.nodes.extend((HEADER..lower).step_by(2).map(|at| u16_at(&self.bytes, at)));
        if !self.is_leaf && self.nodes.len() < 2 && key == 0 {
            return Err("a branch with one child");
        }
        self.check_nodes(upper, key)
    }

    /// Nodes fill the end of the page, each byte once.
    fn check_nodes(&mut self, upper: usize, key: usize) -> Result<(), Fault> {
        let size = self.bytes.len();
        self.spans.clear();
        for (index, &at) in self.nodes.iter().enumerate() {
            let at = at as usize;
            if at < upper || at % 2 != 0 || at + NODE > size {
                return Err("a node lies outside of the page");
            }
            let end = at + self.length_of_node(at, index, key)?.next_multiple_of(2);
            if end > size {
                return Err("a node is longer than the page");
            }
            self.spans.push((at as u16, end as u16));
        }
        self.spans.sort_unstable();
        let mut filled = upper;
        for &(at, end) in &self.spans {
            if at as usize != filled {
                return Err("its nodes lie one over the other");
            }
            filled = end as usize;
        }
        if filled == size {
            Ok(())
        } else {
            Err("its nodes do not fill it")
        }
    }

    fn length_of_node(&self, at: usize, index: usize, key: usize) -> Result<usize, Fault> {
        let len = u16_at(&self.bytes, at + 6) as usize;
        // The first child of a branch begins where the branch does: its key is of no account.
        let is_first_child = !self.is_leaf && index == 0;
        if len > LONGEST_KEY || !is_first_child && (len == 0 || key != 0 && len != key) {
            return Err("a key of an impossible length");
        }
        if !self.is_leaf {
            return Ok(NODE + len);
        }
        match u16_at(&self.bytes, at + 4) {
            0 => Ok(NODE + len + u32_at(&self.bytes, at) as usize),
            BIG => Ok(NODE + len + 8),
            _ => Err("a node of an unknown kind"),
        }
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn key(&self, index: usize) -> &[u8] {
        let at = self.nodes[index] as usize;
        let len = u16_at(&self.bytes, at + 6) as usize;
        &self.bytes[at + NODE..at + NODE + len]
    }

    /// The page of a branch's child.
    pub fn child(&self, index: usize) -> u64 {
        let at = self.nodes[index] as usize;
        u64::from(u32_at(&self.bytes, at)) | u64::from(u16_at(&self.bytes, at + 4)) << 32
    }

    /// The value of a leaf's record.
    pub fn value(&self, index: usize) -> Node<'_> {
        let at = self.nodes[index] as usize;
        let len = u32_at(&self.bytes, at) as usize;
        let begin = at + NODE + u16_at(&self.bytes, at + 6) as usize;
        if u16_at(&self.bytes, at + 4) == BIG {
            return Node::Big(u64_at(&self.bytes, begin), len as u64);
        }
        Node::Inside(&self.bytes[begin..begin + len])
    }
}
