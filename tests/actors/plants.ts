/** What a red team plants in a site on a system node, wherever root works after the site's user, its build or its pip run. */
// Long because: one table of all plants.

/**
 * Who plants it, and when:
 * `tree` stands in the pushed artifact, as a receiver would send it that is in an attacker's hands;
 * `build` is made by the build command, `pip` by a local package while it is installed, `release` by the release command;
 * `site` by the running site, `run` by a command that is run in it, both before a push; `end` by the site before it is destroyed.
 */
export type Place = 'tree' | 'build' | 'pip' | 'release' | 'site' | 'run' | 'end';

export interface Plant {
  /** A sentence. */
  name: string;
  where: Place;
  /** Shell; `plant` is `red-team-plant.py`. It must succeed, or what it would show is not shown. */
  plant: string;
  /**
   * What becomes of a push with it. `harmless`: it goes live, and what was planted is gone or inert. `refused`: an error of the
   * tree. `either`: one of the two. `denied`: planting it fails already.
   */
  expect: 'harmless' | 'refused' | 'either' | 'denied';
  /** Run by root after the push: prints what is wrong. */
  proof?: string;
  /** What kraftwerk.yaml says of static files, beside `/static`. */
  served?: { prefix: string; folder: string };
  /** One of its kind; in CI it is left to the nightly run. */
  nightly?: true;
}

const TREE: readonly Omit<Plant, 'where'>[] = [
  { name: 'a link to a folder of the system', plant: 'ln -s /etc conf', expect: 'refused' },
  { name: 'a link to another site', plant: 'ln -s ../../../beta/uploads other', expect: 'refused', nightly: true },
  { name: 'a chain of links that leads out', plant: 'ln -s . a; ln -s a/../.. b', expect: 'refused', nightly: true },
  {
    name: 'a link through what root will link',
    plant: 'mkdir -p a/b/c; ln -s a/b/c .run',
    expect: 'refused',
    nightly: true,
  },
  { name: 'a file called .run', plant: 'echo x >.run', expect: 'refused', nightly: true },
  {
    name: 'a folder called venv',
    plant: 'mkdir -p venv/bin; cp /bin/true venv/bin/python',
    expect: 'refused',
    nightly: true,
  },
  { name: 'a link through venv', plant: 'ln -s venv/lib lib', expect: 'refused', nightly: true },
  { name: 'a hard link', plant: 'echo x >one; ln one two', expect: 'refused', nightly: true },
  { name: 'a fifo', plant: 'mkfifo pipe', expect: 'refused', nightly: true },
  { name: 'a name that is not UTF-8', plant: 'plant bytes-name file', expect: 'refused', nightly: true },
  { name: 'a folder deeper than 64', plant: 'plant deep 70 1', expect: 'refused', nightly: true },
  { name: 'a path longer than 1024 bytes', plant: 'plant deep 9 200', expect: 'refused', nightly: true },
  { name: 'byte code of another source', plant: 'plant byte-code pkg/canary.py', expect: 'harmless' },
  {
    name: 'byte code without a source, beside it and in its own folder',
    plant: 'plant byte-code ghost.py; plant byte-code pkg/canary.py pkg/canary.pyc',
    expect: 'harmless',
  },
  {
    name: '__pycache__ as a file, and as a folder of folders',
    plant: 'mkdir -p p q/__pycache__/inner; echo X=1 >p/m.py; echo X=1 >q/m.py; echo x >p/__pycache__',
    expect: 'harmless',
  },
  {
    name: '__pycache__ as a link within the tree',
    plant: 'mkdir r; echo X=1 >r/m.py; ln -s ../static r/__pycache__',
    expect: 'harmless',
  },
  {
    name: 'files that anybody may run as their owner',
    plant: 'cp /bin/true suid; chmod 6777 suid',
    expect: 'harmless',
  },
  {
    name: 'a folder and a file of mode 0',
    plant: 'mkdir shut; echo x >shut/f; chmod 0 shut/f shut',
    expect: 'harmless',
  },
  {
    name: 'names of ours: current, releases, .kraftwerk',
    plant: 'ln -s . current; mkdir releases .kraftwerk',
    expect: 'harmless',
  },
  { name: 'a name of 255 bytes', plant: 'echo x >"$(printf %0255d 0)"', expect: 'harmless' },
];

const BUILD: readonly Omit<Plant, 'where'>[] = [
  {
    name: 'a module whose byte code has too long a name',
    plant: 'echo X=1 >"$(printf %0252d 0).py"',
    expect: 'harmless',
    nightly: true,
  },
  {
    name: 'in the home of builds, a module that the next pip run would load',
    plant:
      'd=$HOME/.local/lib/$(/usr/bin/python3 -c "import sys; print(\'python%d.%d\' % sys.version_info[:2])")/site-packages; mkdir -p "$d"; echo "open(\'$HOME/heeded\', \'a\').write(\'x\')" >"$d/usercustomize.py"',
    expect: 'harmless',
    nightly: true,
  },
  { name: 'fifos, also where nginx serves', plant: 'mkfifo pipe static/pipe.css', expect: 'harmless' },
  { name: 'a socket', plant: 'plant bind static/bound', expect: 'harmless' },
  {
    name: 'a file that runs as its owner',
    plant: 'plant setuid-shell shell; mkdir -m 7777 sticky',
    expect: 'harmless',
  },
  { name: 'what everybody may write', plant: 'echo x >open; chmod 666 open; mkdir -m 777 opened', expect: 'harmless' },
  {
    name: 'a folder of mode 0 with content, and a file of mode 0',
    plant: 'mkdir shut; echo x >shut/f; chmod 0 shut/f shut; echo x >static/shut.css; chmod 0 static/shut.css',
    expect: 'harmless',
  },
  { name: 'a name with a newline', plant: 'echo x >"$(printf "new\\nline.py")"', expect: 'either', nightly: true },
  { name: 'names of 255 bytes', plant: 'n=$(printf %0252d 0); echo x >"$n.js"; mkdir "d${n}ab"', expect: 'harmless' },
  { name: 'a file of a terabyte of nothing', plant: 'truncate -s 1T vast', expect: 'harmless' },
  { name: 'two names of one file', plant: 'echo calm >one; ln one two; ln one static/three.css', expect: 'harmless' },
  {
    name: 'a second name of a file outside of the tree',
    plant: 'echo calm >linked; ln linked "/var/tmp/red-name-$$"; ln -f linked "$HOME/c"',
    expect: 'harmless',
  },
  {
    name: 'access lists that give it to the site, for all that is made there, too',
    plant:
      'mkdir -p listed/in; echo "X = 1" >listed/in/m.py; for p in listed listed/in listed/in/m.py; do plant acl $p $(id -un) web-alpha web-beta; done',
    expect: 'harmless',
  },
  {
    name: 'access lists on the tree itself and on modules',
    plant: 'plant acl . web-alpha; plant acl pkg/canary.py web-alpha; plant acl static web-alpha www-data',
    expect: 'harmless',
  },
  {
    name: '__pycache__ as a link to where nginx finds its sites',
    plant: 'rm -rf __pycache__; ln -s /etc/nginx/sites-enabled __pycache__',
    expect: 'harmless',
  },
  {
    name: '__pycache__ as a link to the home of root, in a package',
    plant:
      'mkdir -p k/l; echo "X = 1" >k/m.py; echo "X = 1" >k/l/m.py; ln -s /root k/__pycache__; ln -s ../../../../venvs k/l/__pycache__',
    expect: 'harmless',
  },
  { name: '__pycache__ as a file', plant: 'mkdir f; echo "X = 1" >f/m.py; echo x >f/__pycache__', expect: 'harmless' },
  { name: '__pycache__ as a fifo', plant: 'mkdir g; echo "X = 1" >g/m.py; mkfifo g/__pycache__', expect: 'harmless' },
  {
    name: '__pycache__ as a folder of mode 0',
    plant: 'mkdir h; echo "X = 1" >h/m.py; mkdir -m 0 h/__pycache__',
    expect: 'harmless',
  },
  {
    name: '__pycache__ in __pycache__, and one that nginx serves',
    plant:
      'mkdir -p i/__pycache__/__pycache__ static/__pycache__; echo "X = 1" >i/__pycache__/m.py; echo x >static/__pycache__/x.css',
    expect: 'harmless',
  },
  { name: 'byte code of another source', plant: 'plant byte-code pkg/canary.py', expect: 'harmless' },
  { name: 'byte code in the place of a module', plant: 'plant byte-code x.py lone.pyc', expect: 'harmless' },
  {
    name: 'modules that are links to each other',
    plant: 'ln -s pkg/canary.py alias.py; ln -s alias.py third.py',
    expect: 'harmless',
  },
  {
    name: 'a module that takes long to compile',
    plant:
      'plant deep 10 3 slow; printf "x = %s1%s\\n" "$(printf "(%.0s" $(seq 190))" "$(printf ")%.0s" $(seq 190))" >slow/deep.py',
    expect: 'harmless',
  },
  { name: 'a module that is a terabyte', plant: 'truncate -s 1T vast.py', expect: 'harmless', nightly: true },
  { name: 'a link instead of venv', plant: 'rm -rf venv; ln -s / venv', expect: 'harmless' },
  {
    name: 'a folder instead of venv',
    plant: 'rm -rf venv; mkdir -p venv/bin; echo x >venv/bin/python',
    expect: 'harmless',
    nightly: true,
  },
  {
    name: 'current, releases and .kraftwerk in the tree',
    plant: 'ln -s . current; mkdir .kraftwerk; echo "{}" >.kraftwerk/release.json',
    expect: 'harmless',
  },
  {
    name: 'a chain of links in the place of static files',
    plant:
      'mkdir chain; echo x >chain/c.css; mv static real; ln -s chain s1; ln -s s1 s2; ln -s ../s2 real/linked; ln -s real static',
    expect: 'harmless',
    nightly: true,
  },
  { name: 'a process that has forked twice', plant: 'plant daemon fork red-build-fork', expect: 'harmless' },
  { name: 'a process in a session of its own', plant: 'plant daemon session red-build-session', expect: 'harmless' },
  { name: 'a process without an environment', plant: 'plant daemon clean red-build-clean', expect: 'harmless' },
  { name: 'a process that is another every moment', plant: 'plant daemon storm red-build-storm', expect: 'harmless' },
  {
    name: 'a file, open for writing, in the hands of the running site',
    plant: 'plant hold pass held/passed.py',
    expect: 'harmless',
  },
  {
    name: 'a file, open for writing, in a socket that nobody reads yet',
    plant: 'plant hold flight held/flight',
    expect: 'harmless',
  },
  {
    name: 'a file that the running site has mapped into its memory',
    plant: 'plant hold map held/mapped',
    expect: 'harmless',
  },
  { name: 'a folder that the running site holds open', plant: 'plant hold folder held/folder', expect: 'harmless' },
  {
    name: 'a vast file, open for writing, in the hands of the running site',
    plant: 'plant hold pass vast-held; truncate -s 1T vast-held',
    expect: 'either',
    nightly: true,
  },
  {
    name: 'a program in an open folder, by which the site can be the builder',
    plant:
      'mkdir -p /var/tmp/red-names; chmod 777 /var/tmp/red-names; plant setuid-shell /var/tmp/red-names/builder; plant setuid-shell "$HOME/builder"',
    expect: 'harmless',
  },
  {
    name: 'the cache filled with links and fifos',
    plant:
      'mkdir -p "$HOME/x"; ln -sfn /etc "$HOME/x/e"; ln -sfn /root "$HOME/uv"; rm -f "$HOME/p"; mkfifo "$HOME/p"; rm -rf "$HOME/pip"; ln -s /root "$HOME/pip"',
    expect: 'harmless',
  },
  {
    name: 'the cache in the place of another folder',
    plant: 'mv "$HOME" "$HOME.x" || rmdir "$HOME"',
    expect: 'denied',
  },
  { name: 'a release beside ours', plant: 'mkdir ../v99 || ln -s /etc ../v98', expect: 'denied' },
  { name: 'our own tree by another name', plant: 'mv "$PWD" "$PWD.x" || mv "$PWD" ../v97', expect: 'denied' },
  {
    name: 'the virtualenv, which is done',
    plant: 'for f in /web/alpha/venvs/*/bin; do echo x >"$f/new" || echo x >>"$f/python"; done',
    expect: 'denied',
  },
  {
    name: 'what a build before has made byte code of',
    plant: 'echo x >>/web/alpha/bytecode/x || rm -r /web/alpha/bytecode',
    expect: 'denied',
  },

  {
    name: 'our name for a copy, beside a file that the running site holds',
    plant: 'mkdir -p w; plant hold pass w/held; echo x >w/.kraftwerk-copy; echo x >.kraftwerk-copy',
    expect: 'either',
    nightly: true,
  },
  {
    name: '__pycache__ with a folder of 150 levels',
    plant: 'plant deep 150 40 z/__pycache__',
    expect: 'either',
    nightly: true,
  },
  {
    name: '__pycache__ with a folder of 3000 levels',
    plant: 'plant deep 3000 1 z/__pycache__',
    expect: 'either',
    nightly: true,
  },
  {
    name: '__pycache__ with 10,000 folders',
    plant: 'mkdir -p y/__pycache__; cd y/__pycache__; seq 10000 | xargs mkdir',
    expect: 'harmless',
    nightly: true,
  },
  {
    name: '3,000 folders in a folder of 64 levels',
    plant: 'plant deep 64 1; d=$(printf "d/%.0s" $(seq 64)); cd "$d"; seq 3000 | xargs mkdir',
    expect: 'refused',
    nightly: true,
  },
  {
    name: 'a long path of control characters',
    plant: 'n=$(printf "\\001%.0s" $(seq 250)); for i in 1 2 3 4 5; do mkdir "$n"; cd "$n"; done; echo x >leaf',
    expect: 'refused',
    nightly: true,
  },
  { name: 'a folder of 300 levels, beyond what a path can be', plant: 'plant deep 300 40', expect: 'refused' },
  { name: 'a folder of 3000 levels', plant: 'plant deep 3000 1', expect: 'refused', nightly: true },
  { name: 'a folder of 65 levels', plant: 'plant deep 65 1', expect: 'refused', nightly: true },
  { name: 'a path of more than 1024 bytes', plant: 'plant deep 5 250', expect: 'refused', nightly: true },
  { name: 'a file whose name is not UTF-8', plant: 'plant bytes-name file', expect: 'refused' },
  {
    name: 'a folder whose name is not UTF-8',
    plant: 'plant bytes-name folder static',
    expect: 'refused',
    nightly: true,
  },
  { name: 'a link whose name is not UTF-8', plant: 'plant bytes-name link', expect: 'refused', nightly: true },
  { name: 'a link whose target is not UTF-8', plant: 'plant bytes-name target', expect: 'either', nightly: true },
  {
    name: 'a link to outside whose target is not UTF-8',
    plant: 'plant bytes-name outside',
    expect: 'refused',
    nightly: true,
  },
  {
    name: 'a link to a folder of the system',
    plant: 'rm -r static; ln -s /etc static',
    expect: 'refused',
    nightly: true,
  },
  { name: 'a link to the whole site', plant: 'ln -s ../.. static/up', expect: 'refused', nightly: true },
  { name: 'a link to the release before', plant: 'ln -s ../v1/static older', expect: 'refused', nightly: true },
  { name: 'a link into the byte code', plant: 'ln -s ../../bytecode codes', expect: 'refused', nightly: true },
  {
    name: 'a chain of links that leads out',
    plant: 'ln -s . a; ln -s a/../.. b; ln -s b/.. c',
    expect: 'refused',
    nightly: true,
  },
  {
    name: 'a link to itself, and two in a ring',
    plant: 'ln -s me me; ln -s g r; ln -s r g',
    expect: 'refused',
    nightly: true,
  },
  {
    name: 'a link to the files of whoever follows it',
    plant: 'ln -s /proc/self/root here',
    expect: 'refused',
    nightly: true,
  },
  { name: 'a link through venv', plant: 'ln -s venv/lib lib', expect: 'refused', nightly: true },
  { name: 'a link to venv itself', plant: 'ln -s venv env', expect: 'refused', nightly: true },
  {
    name: 'a link through .run, which leads elsewhere when root has linked it',
    plant: 'mkdir -p a/b/c/d/e/f; ln -s a/b/c/d/e/f .run; rm -r static; ln -s .run/../../../.. st; mkdir static',
    served: { prefix: '/s', folder: 'st' },
    expect: 'refused',
  },
  { name: 'a link through .run that is not there yet', plant: 'ln -s .run/x later', expect: 'refused', nightly: true },
  { name: 'a file called .run', plant: 'echo x >.run', expect: 'refused', nightly: true },
  { name: 'a folder called .run', plant: 'mkdir .run; echo x >.run/web.sock', expect: 'refused', nightly: true },
  {
    name: 'a deep folder behind a name that is not UTF-8, and a link out',
    plant: 'plant bytes-name folder; cd caf*; plant deep 200 40; cd ..; ln -s /root out',
    expect: 'refused',
    nightly: true,
  },
];

/** `$VENV` is the virtualenv, under the name that it has while it is built, which ends with the number of the agent. */
const PIP: readonly Omit<Plant, 'where'>[] = [
  {
    name: 'our temporary name for a script, as a link to a program of the machine',
    plant:
      'printf "#!%s/bin/python\\nowned\\n" "$VENV" >"$VENV/bin/tool"; ln -s /opt/red-team-prey "$VENV/bin/.tool.${VENV##*.}.tmp"',
    expect: 'either',
  },
  {
    name: 'our temporary name for a script, as a file',
    plant: 'printf "#!%s/bin/python\\nowned\\n" "$VENV" >"$VENV/bin/tool"; echo x >"$VENV/bin/.tool.${VENV##*.}.tmp"',
    expect: 'either',
    nightly: true,
  },
  {
    name: "our temporary name for a script, as a link to root's home",
    plant:
      'printf "#!%s/bin/python\\nowned\\n" "$VENV" >"$VENV/bin/tool"; ln -s /root/owned "$VENV/bin/.tool.${VENV##*.}.tmp"',
    expect: 'either',
    nightly: true,
  },
  {
    name: 'temporary names for many processes',
    plant:
      'for p in $(seq 300 700); do ln -sf /root/owned "$VENV/bin/.many.$p.tmp"; done; printf "#!%s/bin/python\\n" "$VENV" >"$VENV/bin/many"',
    expect: 'either',
    nightly: true,
  },
  {
    name: 'a fifo and a socket among the scripts',
    plant: 'mkfifo "$VENV/bin/pipe"; plant bind "$VENV/bin/bound"',
    expect: 'harmless',
  },
  { name: 'a program that runs as its owner', plant: 'plant setuid-shell "$VENV/bin/shell"', expect: 'harmless' },
  {
    name: 'what everybody may write',
    plant: 'mkdir -m 777 "$VENV/open"; echo x >"$VENV/open/f"; chmod 666 "$VENV/open/f"',
    expect: 'harmless',
  },
  {
    name: 'a folder and a file of mode 0',
    plant: 'mkdir "$VENV/shut"; echo x >"$VENV/shut/f"; chmod 0 "$VENV/shut/f" "$VENV/shut"',
    expect: 'harmless',
  },
  { name: 'a second name of a file of the tree', plant: 'echo calm >once; ln once "$VENV/twice"', expect: 'harmless' },
  {
    name: 'access lists that give it to the site',
    plant: 'plant acl "$VENV" web-alpha; plant acl "$VENV/bin" web-alpha',
    expect: 'harmless',
  },
  { name: 'a process that has forked twice', plant: 'plant daemon fork red-pip-fork', expect: 'harmless' },
  { name: 'a process without an environment', plant: 'plant daemon clean red-pip-clean', expect: 'harmless' },
  {
    name: 'a file, open for writing, in the hands of the running site',
    plant: 'plant hold pass "$VENV/lib/held"; plant hold pass "$VENV/bin/held"',
    expect: 'harmless',
  },
  {
    name: 'a file that the running site has mapped into its memory',
    plant: 'plant hold map "$VENV/mapped"',
    expect: 'harmless',
  },
  {
    name: 'a folder that the running site holds open',
    plant: 'plant hold folder "$VENV/lib/folder"',
    expect: 'harmless',
  },
  {
    name: 'a folder of the virtualenv that is a link to the system',
    plant: 'ln -s /etc "$VENV/etc"; ln -s /root "$VENV/lib/__pycache__"',
    expect: 'either',
    nightly: true,
  },
  {
    name: 'the folder of scripts as a link to the cache, which stays in its hands',
    plant:
      'rm -rf "$HOME/bin"; mv "$VENV/bin" "$HOME/bin"; ln -s "$HOME/bin" "$VENV/bin"; printf "#!%s/bin/python\\n" "$VENV" >"$HOME/bin/tool"; ln -sf /root/owned "$HOME/bin/.tool.${VENV##*.}.tmp"',
    expect: 'either',
  },
  {
    name: 'the library as a link to the cache',
    plant: 'rm -rf "$HOME/lib"; mv "$VENV/lib" "$HOME/lib"; ln -s "$HOME/lib" "$VENV/lib"',
    expect: 'either',
    nightly: true,
  },
  {
    name: 'an interpreter that is a script',
    plant:
      'rm -f "$VENV/bin/python"; printf "#!/bin/sh\\nexec /usr/bin/python3 \\"\\$@\\"\\n" >"$VENV/bin/python"; chmod 755 "$VENV/bin/python"',
    expect: 'either',
    nightly: true,
  },
  {
    name: 'an interpreter that is a link to a program of the cache',
    plant:
      'rm -f "$HOME/py"; printf "#!/bin/sh\\nexec /usr/bin/python3 \\"\\$@\\"\\n" >"$HOME/py"; chmod 755 "$HOME/py"; ln -sf "$HOME/py" "$VENV/bin/python"',
    expect: 'either',
    nightly: true,
  },
  {
    name: 'a configuration that names another home',
    plant: 'mkdir -p "$HOME/home"; printf "home = %s/home\\n" "$HOME" >>"$VENV/pyvenv.cfg"',
    expect: 'either',
    nightly: true,
  },
  {
    name: 'a folder of 300 levels in the virtualenv',
    plant: 'plant deep 300 40 "$VENV/lib"',
    expect: 'either',
    nightly: true,
  },
  {
    name: 'a name that is not UTF-8 in the virtualenv',
    plant: 'plant bytes-name file "$VENV/bin"',
    expect: 'either',
    nightly: true,
  },
  { name: 'a folder of 300 levels in the tree', plant: 'plant deep 300 40', expect: 'refused', nightly: true },
  { name: 'a name that is not UTF-8 in the tree', plant: 'plant bytes-name file', expect: 'refused', nightly: true },
  {
    name: '__pycache__ as a link to the home of root',
    plant: 'rm -rf "$TREE/__pycache__"; ln -s /root "$TREE/__pycache__"',
    expect: 'harmless',
  },
  {
    name: 'byte code of another source',
    plant: 'cd "$TREE"; plant byte-code pkg/canary.py',
    expect: 'harmless',
    nightly: true,
  },
  { name: 'a link out of the tree', plant: 'ln -s /root "$TREE/static/out"', expect: 'refused', nightly: true },
  { name: 'the virtualenv as another folder', plant: 'mv "$VENV" "$VENV.x" || mkdir "${VENV%/*}/x"', expect: 'denied' },
];

const RELEASE: readonly Omit<Plant, 'where'>[] = [
  { name: 'a process that has forked twice', plant: 'plant daemon fork red-release-fork', expect: 'harmless' },
  {
    name: 'a process in a session of its own, without an environment',
    plant: 'plant daemon clean red-release-clean',
    expect: 'harmless',
  },
  { name: 'a file in the release', plant: 'echo x >planted || ln -s /etc planted', expect: 'denied' },
  { name: 'the link to its socket', plant: 'ln -sfn /etc .run', expect: 'denied' },
];

/** By the running site; its uploads and its data are then dumped, and root removes all of it in the end. */
const SITE: readonly Omit<Plant, 'where'>[] = [
  {
    name: 'links in the uploads to other files, and chains of them',
    plant:
      'cd "$UPLOADS_PATH"; ln -s /etc/passwd passwd; ln -s /web/beta/uploads beta; ln -s . a; ln -s a/../.. b; ln -s /root root',
    expect: 'harmless',
  },
  {
    name: 'second names of uploads',
    plant: 'cd "$UPLOADS_PATH"; echo calm >one; ln one two; mkdir -p /var/tmp/red-site; ln one /var/tmp/red-site/three',
    expect: 'harmless',
  },
  {
    name: 'fifos and sockets in the uploads',
    plant: 'cd "$UPLOADS_PATH"; mkfifo pipe; plant bind bound',
    expect: 'harmless',
  },
  {
    name: 'programs in the uploads that run as their owner',
    plant: 'cd "$UPLOADS_PATH"; plant setuid-shell shell',
    expect: 'harmless',
  },
  {
    name: 'folders and files of mode 0 in the uploads',
    plant: 'cd "$UPLOADS_PATH"; mkdir shut; echo x >shut/f; chmod 0 shut/f; chmod 500 shut',
    expect: 'harmless',
  },
  {
    name: 'names in the uploads that are no text',
    plant:
      'cd "$UPLOADS_PATH"; plant bytes-name file; plant bytes-name target; echo x >"$(printf "new\\nline")"; echo x >"$(printf %0255d 0)"',
    expect: 'harmless',
  },
  {
    name: 'access lists on the uploads',
    plant: 'cd "$UPLOADS_PATH"; mkdir listed; plant acl listed web-beta www-data',
    expect: 'harmless',
  },
  {
    name: 'links and fifos in the data',
    plant:
      'cd "$DATA_PATH"; ln -s /etc/shadow db.sqlite3; mkfifo pipe.sqlite3; ln -s /root/x db.sqlite3-wal; ln -s /root root',
    expect: 'harmless',
  },
  {
    name: 'marks of ours, escapes and long lines in the log',
    plant: 'plant say',
    expect: 'harmless',
  },
  {
    name: 'names in open folders',
    plant:
      'for f in /tmp /dev/shm /var/tmp; do mkdir -m 777 $f/red-open; mkfifo $f/red-open/pipe; ln -s /root $f/red-link; done; plant shared red-shared',
    expect: 'harmless',
  },
  {
    name: 'a program in an open folder, by which the builder can be the site',
    plant: 'mkdir -p /var/tmp/red-site; chmod 777 /var/tmp/red-site; plant setuid-shell /var/tmp/red-site/shell',
    expect: 'harmless',
  },
  { name: 'a process that has forked twice', plant: 'plant daemon fork red-site-fork', expect: 'harmless' },
  { name: 'a process in a session of its own', plant: 'plant daemon session red-site-session', expect: 'harmless' },
  { name: 'a process without an environment', plant: 'plant daemon clean red-site-clean', expect: 'harmless' },
  { name: 'a process that is another every moment', plant: 'plant daemon storm red-site-storm', expect: 'harmless' },
  { name: 'a socket by the path of ours', plant: 'plant bind /run/kraftwerk/alpha/a.99/web.sock', expect: 'denied' },
  {
    name: "a folder beside the site's socket",
    plant: 'mkdir /run/kraftwerk/alpha/b.98 || ln -s /etc /run/kraftwerk/x',
    expect: 'denied',
  },
  {
    name: 'a link in the place of its folder',
    plant: 'mv /web/alpha/uploads /web/alpha/x || mv /web/alpha/data /web/alpha/y',
    expect: 'denied',
  },
  {
    name: "a key of its own, for its user's logins",
    plant: 'mkdir -p /web/alpha/.ssh && echo x >/web/alpha/.ssh/authorized_keys',
    expect: 'denied',
  },
  { name: 'something in the cache of its builds', plant: 'ln -s /etc /web/alpha/.cache/by-the-site', expect: 'denied' },
];

const RUN: readonly Omit<Plant, 'where'>[] = [
  { name: 'a process that has forked twice', plant: 'plant daemon fork red-run-fork', expect: 'harmless' },
  { name: 'a process without an environment', plant: 'plant daemon clean red-run-clean', expect: 'harmless' },
  { name: 'a process that is another every moment', plant: 'plant daemon storm red-run-storm', expect: 'harmless' },
  { name: 'something in the tree', plant: 'echo x >app.py || mkdir more', expect: 'denied' },
];

/** What no dump is made of any more: for root to remove. */
const END: readonly Omit<Plant, 'where'>[] = [
  {
    name: 'a folder of 300 levels in the uploads',
    plant: 'plant deep 300 40 "$UPLOADS_PATH/deep"',
    expect: 'harmless',
  },
  { name: 'a folder of 3000 levels in the data', plant: 'plant deep 3000 1 "$DATA_PATH/deep"', expect: 'harmless' },
  {
    name: 'deep folders in open places',
    plant: 'for f in /tmp /var/tmp /dev/shm; do plant deep 300 40 $f/red-deep; done',
    expect: 'harmless',
  },
  {
    name: 'a name that is no text in open places',
    plant:
      'for f in /tmp /var/tmp /dev/shm; do plant bytes-name file $f; mkdir -p $f/red-names-of; plant bytes-name folder $f/red-names-of; done',
    expect: 'harmless',
  },
  { name: 'a terabyte of nothing', plant: 'truncate -s 1T "$UPLOADS_PATH/vast"', expect: 'harmless' },
  {
    name: 'folders that shut out their owner',
    plant: 'mkdir /tmp/red-shut; mkdir /tmp/red-shut/in; chmod 0 /tmp/red-shut',
    expect: 'harmless',
  },
  {
    name: 'what a link to another node leaves',
    plant:
      'cd /run/kraftwerk-link/alpha/postgres; ln -s /root .s.PGSQL.5432; mkfifo pipe; plant bytes-name folder; plant deep 300 40',
    expect: 'harmless',
  },
  {
    name: 'a folder that is exchanged for a link all the time',
    plant:
      'mkdir "$UPLOADS_PATH/swap"; echo x >"$UPLOADS_PATH/swap/f"; (plant exchange "$UPLOADS_PATH/swap" /root/prey 30 /tmp/red-ready) </dev/null >/dev/null 2>&1 & while [ ! -e /tmp/red-ready ]; do sleep 0.01; done',
    expect: 'harmless',
  },
  {
    name: 'processes that do not want to end',
    plant: 'plant daemon storm red-end-storm; plant daemon clean red-end-clean',
    expect: 'harmless',
  },
];

const at = (where: Place, plants: readonly Omit<Plant, 'where'>[]): Plant[] => plants.map((one) => ({ where, ...one }));

export const PLANTS: readonly Plant[] = [
  ...at('tree', TREE),
  ...at('build', BUILD),
  ...at('pip', PIP),
  ...at('release', RELEASE),
  ...at('site', SITE),
  ...at('run', RUN),
  ...at('end', END),
];

/** Those of a place that may stand together in one push, as one script in which each must succeed. */
export function scriptOf(plants: readonly Plant[]): string {
  const one = ({ plant, expect, name }: Plant): string => {
    const words = name.replaceAll("'", '');
    return expect === 'denied'
      ? `if (${plant}) 2>/dev/null; then echo 'not denied: ${words}'; exit 1; fi`
      : `(set -e; ${plant}\n) || { echo 'not planted: ${words}'; exit 1; }`;
  };
  return `plant() { /usr/bin/python3 -I /opt/red-team-plant.py "$@"; }\n${plants.map(one).join('\n')}`;
}
