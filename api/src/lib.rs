//! Kubernetes API types of Konductor: primitives, annotations, conditions.
