//! The test bed: a real control plane, the real operator, real Patroni and PostgreSQL, on one
//! machine, without containers and without root.
//!
//! Everything runs inside a [`sandbox`]: Linux namespaces in which pod addresses are local
//! addresses. A [`bed`] runs there. [`tools`] and [`programs`] provision its parts outside, where
//! the network is available.

pub mod account;
pub mod bed;
pub mod budget;
pub mod chart;
pub mod cluster;
pub mod confined;
pub mod control_plane;
pub mod followed;
pub mod guarding;
pub mod kubelet;
pub mod metrics;
pub mod operator;
pub mod page;
pub mod patroni;
pub mod pki;
pub mod postgres;
pub mod process;
pub mod programs;
pub mod progress;
pub mod proof;
pub mod python;
pub mod relay;
pub mod replicas;
pub mod reviewer;
pub mod sandbox;
pub mod slots;
pub mod stage;
pub mod streaming;
pub mod suggested;
pub mod supplies;
pub mod tools;
pub mod trial;
pub mod wait;
pub mod webhook;
pub mod writer;
pub mod writing;
