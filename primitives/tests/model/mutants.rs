//! Mutants: what a broken version would do in place of the shipped one.
//!
//! Each is a wrapper around a shipped function, or around what the API server or the waiter does; nothing that is shipped
//! is changed. What must stay true: for each of them some test shows that the model finds out.

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// Nothing.
    None,
    /// A pod that is being deleted counts as dead.
    DeletionIsDeath,
    /// A phase Failed counts, whoever wrote it.
    AnyPhaseIsDeath,
    /// A ledger is written over whatever version is there.
    DropsCompareAndSwap,
    /// A grant is patched onto whatever version is there.
    DropsPrecondition,
    /// Holds end while the pod can still read its verdict.
    SkipsWithdrawal,
    /// What the cache does not show is gone.
    AbsenceFromCache,
    /// Pods are told what is decided on and not committed.
    TellsUncommitted,
    /// Another run of the waiter gets the number of the one before.
    NeverRaisesRun,
    /// What ran before the grant is not written down.
    ForgetsRanBefore,
    /// The grant comes without finalizer.
    NoFinalizer,
    /// The finalizer is lifted although the pod is in the ledger.
    LiftsFinalizerEarly,
    /// The waiter does not remember what it used.
    WaiterForgets,
    /// The waiter does not look at whose start is meant.
    WaiterIgnoresStart,
    /// The last in the queue goes first.
    LastFirst,
    /// The last token is not remembered.
    ForgetsToken,
    /// Who has been told once is not told again.
    TellsOnce,
    /// Any node that is silent is off.
    SilenceIsDeath,
    /// Semaphore: holders are counted, their permits are not summed.
    CountsHolders,
    /// `RWMutex`: writers enter like readers.
    WriterBesideReaders,
    /// Once: any end is a success.
    AnyEndIsSuccess,
    /// Once: a success of the old key counts for the new one.
    SuccessOfOldKey,
    /// Once: a run that was told to skip may be told to go.
    SkippedEnters,
    /// Job: a hold ends with its Job, whatever its pods do.
    JobEndIsDeath,
    /// A reservation ends at once: nobody was told, so nobody lives.
    ReservationIsDeath,
    /// An entry that lists its pod is taken back like a reservation.
    TakesBackTold,
    /// A pod is told although its entry does not list it.
    TellsReserved,
    /// A reservation is never taken back.
    NeverTakesBack,
    /// Gate: a condition that is met is looked at again.
    NoLatch,
    /// Gate: what a Job counts is taken for its condition.
    CountsForConditions,
    /// What was decided on an earlier spec opens the later one.
    IgnoresGeneration,
    /// Barrier: every pod is another arrival.
    CountsPods,
    /// Barrier: an open one closes when somebody leaves.
    LeavesAfterTrip,
    /// Barrier: who waits for it is let through before it opens.
    TellsOnArrival,
    /// Barrier: a retry of who has passed counts for the next generation.
    ForgetsPassed,
    /// Wait group: a member is done with its first failed attempt.
    FailureIsDone,
    /// Wait group: members that are done are forgotten, and added again.
    ForgetsDone,
    /// Wait group: nothing is everything.
    EmptyIsDone,
}
