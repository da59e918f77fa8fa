//! The cable is pulled: the machine goes on, and the hold with it.

use std::time::Duration;

use konductor_api::ledger::Evidence;
use konductor_e2e::machine::with_machine;

use crate::pair::Pair;

const A_WHILE: Duration = Duration::from_secs(10);

#[tokio::test]
#[ignore = "needs the project's own cluster: cargo xtask test"]
async fn a_holder_that_nobody_hears_goes_on_and_keeps_its_hold() {
    with_machine("cut-off", async |namespace, machine| {
        let pair = Pair::new(namespace, machine, "db").await?;
        machine.is_cut_off().await?;
        pair.until_in_doubt().await?;
        pair.until_it_counts_on().await?;
        pair.stays_as_it_was(A_WHILE).await?;
        pair.until_it_counts_on().await?;

        machine.is_mended().await?;
        pair.until_beyond_doubt().await?;
        pair.until_it_counts_on().await?;
        pair.ends_well().await?;
        let evidence = pair.evidence().await?;
        assert!(matches!(evidence, Evidence::P1 | Evidence::P2), "{evidence}");
        Ok(())
    })
    .await;
}
