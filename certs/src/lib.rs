//! The certificate authority of the webhook: issue, publish, hot-swap.
//!
//! Data passes through three rooms: [`authority`] (one CA in one Secret, each [`leaf`] in memory) -> [`publish`]
//! (its bundle becomes the `caBundle` of our webhook [`configuration`]s) and [`serving`] (the leaf behind a TLS
//! server, replaced while it serves). [`rotation`] goes from one CA to the next. Where somebody else issues (cert-manager),
//! the leaf comes from [`files`], and of the configurations it is only read what is trusted.
//!
//! What must stay true: a leaf's private key never leaves the process, a replica never publishes a CA that is
//! not the one in the Secret, and the trust test of readiness asks what the API server asks.

pub mod authority;
pub mod configuration;
pub mod files;
pub mod leaf;
pub mod publish;
pub mod rotation;
pub mod serving;

pub use authority::{Authority, AuthorityError};
pub use files::Files;
pub use leaf::Leaf;
pub use publish::{LiveBundles, PublishError, Publisher, trusted};
pub use rotation::{Current, Rotation};
pub use serving::{Serving, ServingError};
