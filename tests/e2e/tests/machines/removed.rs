//! The Node object is deleted: a machine that stays away is off after a quarantine, and one that registers again was never
//! gone.

use std::time::Duration;

use konductor_api::ledger::Evidence;
use konductor_e2e::machine::with_machine;

use crate::pair::Pair;

/// Within the quarantine of 40 s.
const AWAY: Duration = Duration::from_secs(10);
/// With that, beyond the quarantines of the operator and of the garbage collector of pods, wherever they began.
const BEYOND: Duration = Duration::from_secs(50);

#[tokio::test]
#[ignore = "needs the project's own cluster: cargo xtask test"]
async fn a_machine_that_is_off_and_removed_gives_up_its_hold_after_a_quarantine() {
    with_machine("removed", async |namespace, machine| {
        let pair = Pair::new(namespace, machine, "db").await?;
        machine.loses_power().await?;
        machine.is_deleted().await?;
        pair.until_in_doubt().await?;
        pair.stays_as_it_was(AWAY).await?;
        assert_eq!(pair.evidence().await?, Evidence::A2);
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs the project's own cluster: cargo xtask test"]
async fn a_machine_that_registers_again_within_the_quarantine_keeps_its_hold() {
    with_machine("returned", async |namespace, machine| {
        let pair = Pair::new(namespace, machine, "db").await?;
        machine.loses_its_kubelet().await?;
        machine.is_deleted().await?;
        pair.until_in_doubt().await?;
        pair.stays_as_it_was(AWAY).await?;
        machine.has_its_kubelet_back().await?;
        pair.until_beyond_doubt().await?;
        pair.stays_as_it_was(BEYOND).await?;
        pair.until_it_counts_on().await?;
        pair.ends_well().await?;
        let evidence = pair.evidence().await?;
        assert!(matches!(evidence, Evidence::P1 | Evidence::P2), "{evidence}");
        Ok(())
    })
    .await;
}
