//! Claims: taking part from a terminal, a script, a runner.
//!
//! The way through: [`identity`] (who asks, and what the claim is called) -> [`wanted`] (what is asked for; pure) -> [`desk`] (the
//! calls: ask, watch, renew, give back) -> [`verbs`] (the commands; [`mod@crate::run`] is another). What must stay true: the same
//! holder asking twice is the same claim; who waits costs one watch; who gives up leaves no claim behind that could be granted
//! later.

pub mod desk;
pub mod identity;
pub mod verbs;
pub mod wanted;
