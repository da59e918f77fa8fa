/* Process 1 of a node and of every pod sandbox: waits, reaps whatever is orphaned onto it, ends on SIGTERM or SIGINT. */
#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>

int main(void)
{
	sigset_t awaited;
	int signal = SIGCHLD;

	sigemptyset(&awaited);
	sigaddset(&awaited, SIGCHLD);
	sigaddset(&awaited, SIGINT);
	sigaddset(&awaited, SIGTERM);
	/* Blocked, they stay pending: process 1 of a namespace would otherwise never see them. */
	sigprocmask(SIG_BLOCK, &awaited, NULL);
	while (signal == SIGCHLD) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (sigwait(&awaited, &signal) != 0)
			return 1;
	}
	return 0;
}
