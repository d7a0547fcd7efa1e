/** Keeps what the journal is to know of a deploy's events. */
import type { DeployEvent } from '../../node-agent/protocol.ts';

export type OnDeployEvent = (event: DeployEvent) => void;

/** Passes events on and keeps the times of the steps. */
export function createRecorder(onEvent: OnDeployEvent): { emit: OnDeployEvent; steps: { step: string; ms: number }[] } {
  const steps: { step: string; ms: number }[] = [];
  return {
    steps,
    emit(event) {
      if (event.event === 'step') steps.push({ step: event.step, ms: Math.round(event.ms * 10) / 10 });
      onEvent(event);
    },
  };
}
