#!/usr/bin/env bash
# The pages as a web site, in .site/html. They are copied as they lie in the repository, so that a
# link of a page holds there and here; a link that leads nowhere ends it with 1.
set -euo pipefail
cd "$(dirname "$0")/.."
. bin/uv.sh
pages=.site/pages

index() { # a page of what a folder has
    echo "# $2"
    for file in "$pages/$1"/*; do
        name=$(basename "$file")
        title=$(sed -n 's/^# //p;/^# /q' "$file")
        case $name in README.md | __*) ;; *.md) echo "- [$title]($name)" ;; *) echo "- [$name]($name)" ;; esac
    done
}

rm -rf .site
mkdir -p $pages
cp -r --parents ./*.md LICENSE databricks.yml docs conf notebooks docker airflow_dags $pages
find $pages -name __pycache__ -prune -exec rm -r {} +
index docs/adr Decisions >$pages/docs/adr/README.md
for folder in conf notebooks docker airflow_dags; do
    index $folder $folder >$pages/$folder/README.md
done
# Folders are links in the repository, pages here.
find $pages -name '*.md' -exec sed -i -E \
    's#\]\(((\.\./|docs/)*(docs/adr|adr|conf|notebooks|docker|airflow_dags))/?\)#](\1/README.md)#g' {} +
uv_reads_pip_settings .venv/bin/python
.venv/bin/uv tool run --quiet --python .venv/bin/python --with 'mkdocs==1.6.1' --from 'mkdocs-material==9.7.0' \
    mkdocs build 2> >(grep -v '^INFO' >&2) # quiet, it would count no warnings
echo "site: .site/html/index.html, $(find .site/html -name index.html | wc -l) pages, every link looked at"
