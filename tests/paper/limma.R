# Makes limma.json, the numbers that test_claims.py compares with. Debian: apt-get install r-bioc-limma
#     Rscript tests/paper/limma.R > tests/paper/limma.json
library(limma)

digits <- function(x) paste0("[", paste(ifelse(is.finite(x), formatC(x, digits = 12, format = "g"),
                                               ifelse(is.infinite(x), '"inf"', '"nan"')), collapse = ", "), "]")
case <- function(rows) {
  fit <- eBayes(lmFit(rows, design = matrix(1, ncol(rows), 1)))
  fields <- list(df.residual = fit$df.residual, df.prior = fit$df.prior, s2.prior = fit$s2.prior,
                 s2 = fit$sigma^2, s2.post = fit$s2.post, t = fit$t[, 1], p = fit$p.value[, 1])
  values <- paste0("[", paste(apply(rows, 1, digits), collapse = ",\n    "), "]")
  inner <- paste0('   "', names(fields), '": ', sapply(fields, digits), collapse = ",\n")
  paste0('{"rows": ', values, ",\n", inner, "}")
}

set.seed(1)
# 8 differences over 3 seeds whose deviations range from 1 to 20 points
uneven <- round(matrix(rnorm(24), 8) * c(1, 2, 3, 4, 6, 8, 14, 20) + c(0, 0, 5, 5, 10, -10, 0, 30), 1)
# two of them lack a seed
gaps <- uneven
gaps[2, 3] <- NA
gaps[5, 1] <- NA
# that scatter more alike than three seeds of one distribution would
alike <- round(matrix(c(-4, 0, 4), 6, 3, byrow = TRUE) * seq(0.8, 1.3, by = 0.1) + 1:6, 1)
cat(paste0('{"uneven": ', case(uneven), ',\n "gaps": ', case(gaps), ',\n "alike": ', case(alike), ',\n',
           ' "limma": "', packageVersion("limma"), '", "R": "', getRversion(), '"}\n'))
