//! A seeded simulation.
