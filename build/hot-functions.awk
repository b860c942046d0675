# Orders the functions of a program: what the first file lists, then further copies of that. Names of Rust functions end
# in a hash that is another one in every version of the compiler; where a listed name is not there with its hash, every
# function of that name takes its place.
function plain(name) {
    sub(/\.(llvm\.)?[0-9]+$/, "", name)
    if (name ~ /^_ZN/) sub(/17h[0-9a-f]+E$/, "", name)
    if (name ~ /^_R/) gsub(/Cs[0-9A-Za-z]+_/, "Cs_", name)
    return name
}
# The list. Names from C are as they are, also in libraries that are not looked into.
NR == FNR { rank[$1] = NR; if ($1 !~ /^_[ZR]/) print NR, $1; next }
# Symbols as nm prints them.
$NF in rank { there[plain($NF)] = 1; print rank[$NF], $NF; next }
/ _(ZN|R)/ { others[$NF] = plain($NF) }
END {
    for (name in rank) if (!(plain(name) in alike) || rank[name] < alike[plain(name)]) alike[plain(name)] = rank[name]
    for (name in others) {
        name_rank = alike[others[name]]
        if (name_rank) print name_rank + (others[name] in there ? 1000000 : 0), name
    }
}
