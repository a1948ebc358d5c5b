//! What we infer: training, calibration and evaluation of routers from recorded outcomes.
//!
//! **Invariant**: pure: rows and a seed come in, models and figures go out; the same rows and seed
//! give the same model, byte for byte (test `the_same_rows_give_the_same_model` in `fit`).

pub mod calibrate;
pub mod cascade;
pub mod corpus;
pub mod draw;
pub mod fit;
pub mod floor;
pub mod linear;
pub mod lines;
pub mod listwise;
pub mod measure;
pub mod neighbours;
pub mod online;
pub mod outcome;
pub mod pool;
pub mod stop_loss;
pub mod teach;
pub mod trees;
pub mod trial;
