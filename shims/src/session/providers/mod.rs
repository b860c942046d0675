//! The wire formats. Each file is one provider API behind [`super::provider::Provider`].

pub mod mock;
