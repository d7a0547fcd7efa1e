// How git is started on a person's machine, in a repository that anybody may have made. Pure.

/**
 * The configuration of a repository may have come with it, in an archive, or as a bare repository among its files: nothing that it
 * names is run. kraftwerk asks for remotes, configuration and HEAD alone, which run no filter, and merge or diff nothing.
 */
export const HARMLESS_GIT: readonly string[] = [
  '--no-pager',
  ...['-c', 'core.fsmonitor=false'],
  ...['-c', 'core.hooksPath=/dev/null'],
  ...['-c', 'safe.bareRepository=explicit'],
];
